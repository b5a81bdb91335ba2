"""Laplace's approximation beside one better evaluation at its maximum."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from conftest import data
from toys import as_crossed, build, frame, random_theta

from dgmm import Fit, mixed_model
from dgmm.likelihood import Quadrature, freeze
from dgmm.likelihood.compared import by_importance, by_levels
from dgmm.likelihood.crossed_engine import CrossedEngine


def exact_less_laplace(fit: Fit, points: int) -> float:
    done = fit.estimate
    rng = np.random.default_rng(0)
    frozen = freeze(done.model, done.theta, done.observed, Quadrature(points), rng)
    return frozen.value(done.theta) - done.log_likelihood


def test_toenail_is_said_to_be_poor_and_how_far_off(fit_of: Callable[..., Fit]) -> None:
    formula = "y ~ trt * time + (1 | patientID)"
    fit = mixed_model(formula, data("toenail"), family="bernoulli", likelihood="laplace", verbose=0)
    best = fit_of("toenail")
    done = fit.estimate
    found = done.likelihood.compared(done.theta, done.log_likelihood)
    assert found is not None
    assert found.difference == pytest.approx(exact_less_laplace(fit, 111), abs=0.01)
    furthest = float(((fit.fixef() - best.fixef()) / best.std_errors()).abs().max())
    assert 0.5 * furthest < found.away < 3 * furthest
    assert any("it is poor here, use likelihood='quadrature'" in note for note in fit.messages)
    assert f"{abs(found.difference):.2g}" in "".join(fit.messages)


def test_cbpp_is_said_to_be_right() -> None:
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    fit = mixed_model(formula, data("cbpp"), family="binomial", likelihood="laplace", verbose=0)
    (note,) = fit.messages
    assert "0.042 higher" in note  # -91.983 to -92.026, as lme4 has them
    assert "poor" not in note
    assert exact_less_laplace(fit, 41) == pytest.approx(0.042, abs=5e-4)


def test_sampling_of_all_levels_is_the_quadrature_of_separate_ones() -> None:
    model, panel = build("z ~ x + (1 | id)", frame(25, 6, seed=2), "bernoulli")
    theta = random_theta(model, 1)
    engine = CrossedEngine(model, as_crossed(panel))
    laplace = engine.value(model.packing.pack(theta).numpy())
    frozen = freeze(model, theta, panel, Quadrature(41), np.random.default_rng(0))
    known = frozen.value(theta) - laplace
    found = by_levels(engine, theta, seed=0)
    assert found.error < 0.05
    assert abs(found.difference - known) < 4 * found.error


def test_importance_sampling_has_its_error() -> None:
    fit = mixed_model(
        "y ~ lbase + (1 | subject)", data("epil"), family="poisson", likelihood="laplace", verbose=0
    )
    done = fit.estimate
    found = by_importance(done.likelihood, done.theta, done.log_likelihood)
    assert 0 < found.error < 0.05
    assert abs(found.difference - exact_less_laplace(fit, 41)) < 4 * found.error


def test_nothing_is_said_where_it_is_exact(sleepstudy: Fit) -> None:
    frame = data("sleepstudy").assign(other=np.tile(np.arange(9), 20))
    fit = mixed_model(
        "Reaction ~ Days + (1 | Subject) + (1 | other)", frame, likelihood="laplace", verbose=0
    )
    assert not any("Laplace" in note for note in fit.messages)
