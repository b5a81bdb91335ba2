"""The exact Gaussian likelihood from residuals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import build, frame, linear_gaussian, random_theta

from dgmm.likelihood import Laplace
from dgmm.likelihood.gaussian import per_subject
from dgmm.likelihood.gaussian_offset import ResidualLikelihood
from dgmm.likelihood.growth import likelihood_at

TEXTS = ["y ~ x + t + (t | id)", "y ~ x + (t || id)", "y ~ x + (1 | id)"]


def made(text: str = TEXTS[0]):
    """Weights, missing outcomes, and a subject without any."""
    data = frame(15, 5, missing=0.2)
    data.loc[data["id"] == 3, "y"] = np.nan
    model, panel = build(text, data, unit=2.0, weights="w")
    theta = random_theta(model, 2)
    return model, panel.observed_rows(), theta


@pytest.mark.parametrize("text", TEXTS)
def test_value_is_that_of_dense_normal_algebra(text: str) -> None:
    model, panel, theta = made(text)
    engine = ResidualLikelihood(model, panel)
    value = engine.value_and_gradient(engine.vector(theta)).value
    each = per_subject(model, theta, panel)
    assert value == pytest.approx(float(each.sum()), abs=1e-9)
    seen = panel.select(np.flatnonzero(panel.count.numpy() > 0))
    assert value == pytest.approx(linear_gaussian(model, theta, seen)[2].sum(), abs=1e-9)


@pytest.mark.parametrize("text", TEXTS)
def test_gradient_scores_modes_and_omega_are_those_of_laplace(text: str) -> None:
    """Laplace's approximation is exact here, and has its own code."""
    model, panel, theta = made(text)
    engine, other = ResidualLikelihood(model, panel), likelihood_at(model, panel, Laplace())
    x = engine.vector(theta)
    one, two = engine.value_and_gradient(x, scores=True), other.value_and_gradient(x, scores=True)
    np.testing.assert_allclose(one.gradient, two.gradient, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(one.scores, two.scores, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(one.scores.sum(0), one.gradient, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(engine.modes, other.modes, atol=1e-8)
    assert torch.allclose(engine.omega[0], other.omega[0], atol=1e-8)


def test_omega_is_the_derivative_in_the_offset() -> None:
    model, panel, theta = made()
    engine = ResidualLikelihood(model, panel)
    x = engine.vector(theta)
    engine.value_and_gradient(x)
    omega, offset, h = engine.omega[0].clone(), engine.offset.clone(), 1e-4
    for j in (0, 7, panel.n_rows - 1):
        values = []
        for sign in (1, -1):
            engine.offset = offset.clone()
            engine.offset[j] += sign * h
            values.append(engine.value_and_gradient(x).value)
        assert (values[0] - values[1]) / (2 * h) == pytest.approx(float(omega[j]), abs=1e-6)


def test_a_step_too_far_is_not_finite() -> None:
    model, panel, theta = made()
    engine = ResidualLikelihood(model, panel)
    x = engine.vector(theta)
    x[-1] = -400.0
    found = engine.value_and_gradient(x)
    assert not found.value > -1e100
