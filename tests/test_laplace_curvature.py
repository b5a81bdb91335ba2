"""The closed curvature of Laplace's approximation against differences of its gradient."""

from __future__ import annotations

import numpy as np
import pytest
from test_adaptive import CASES, likelihood, ready

from dgmm.likelihood import Laplace, Quadrature
from dgmm.likelihood.laplace_curvature import NewtonSearch, curvature, curved, is_curved
from dgmm.numerics.ascent import ascend

OWN = [case for case in CASES if case[1] != "gaussian"]
OWN.append(("cbind(hits, size - hits) ~ x + t + (t || id)", "binomial"))


@pytest.mark.parametrize("case", OWN)
def test_the_hessian_is_that_of_differences(case: tuple[str, str]) -> None:
    model, panel, theta = ready(case)
    engine = likelihood(model, panel, Laplace())
    assert is_curved(engine)
    x, step = engine.vector(theta), 1e-5
    found = curved(engine, x)
    ends = [
        [engine.value_and_gradient(x + s * h).gradient for s in (1, -1)]
        for h in step * np.eye(len(x))
    ]
    numeric = np.array([(up - down) / (2 * step) for up, down in ends])
    np.testing.assert_allclose(found.hessian, numeric, rtol=1e-7, atol=1e-6)
    plain = engine.value_and_gradient(x)
    assert found.value == pytest.approx(plain.value, rel=1e-12)
    np.testing.assert_allclose(found.gradient, plain.gradient, atol=1e-10)


@pytest.mark.parametrize("case", OWN)
def test_slopes_of_the_modes_are_those_of_differences(case: tuple[str, str]) -> None:
    model, panel, theta = ready(case)
    engine = likelihood(model, panel, Laplace())
    x, step = engine.vector(theta), 1e-5
    ends = [[curved(engine, x + s * h).modes for s in (1, -1)] for h in step * np.eye(len(x))]
    numeric = np.array([(up - down) / (2 * step) for up, down in ends])
    np.testing.assert_allclose(curved(engine, x).slopes, numeric, atol=1e-7)


@pytest.mark.parametrize("case", OWN)
def test_the_expected_information_is_that_of_the_engine(case: tuple[str, str]) -> None:
    model, panel, theta = ready(case)
    engine = likelihood(model, panel, Laplace())
    x = engine.vector(theta)
    found = curved(engine, x).expected
    scores = engine.value_and_gradient(x, scores=True).scores
    assert scores is not None
    np.testing.assert_allclose(found, engine.information(x, scores), rtol=1e-9, atol=1e-9)


def test_it_is_made_once_at_a_place_and_under_an_offset() -> None:
    model, panel, theta = ready(OWN[0])
    engine = likelihood(model, panel, Laplace())
    x = engine.vector(theta)
    first = curvature(engine, x)
    assert curvature(engine, x * (1 + 1e-15)) is first
    other = curvature(engine, x + 1e-6)
    assert other is not first
    engine.offset = engine.offset + 0.5
    assert curvature(engine, x + 1e-6).value != other.value


def test_where_the_curvature_is_little_steps_are_of_scoring() -> None:
    """Far above its maximum l is convex in a standard deviation: -n log s - S / 2 s^2."""
    model, panel, theta = ready(("cbind(hits, size - hits) ~ x + (1 | id)", "binomial"))
    engine = likelihood(model, panel, Laplace())
    x = engine.vector(theta)
    x[-1] = 20.0
    search = NewtonSearch(engine)
    found = search.value_and_gradient(x, scores=True)
    information = search.information(x, found.scores)
    assert curved(engine, x).hessian[-1, -1] > 0
    np.testing.assert_array_equal(information, curved(engine, x).expected)
    step = np.array([0.0] * (len(x) - 1) + [-5.0])
    # straight in the variance: (20^2 - 2 x 20 x 5)^(1/2)
    assert search.along(x, step)[-1] == pytest.approx(np.sqrt(200.0))
    at = ascend(search, engine.vector(theta), tolerance=1e-7, along=search.along)
    assert at.decrement < 1e-7
    found = search.value_and_gradient(at.x, scores=True)
    np.testing.assert_array_equal(search.information(at.x, found.scores), -search.latest.hessian)
    np.testing.assert_array_equal(search.along(at.x, step), at.x + step)


def test_quadrature_keeps_a_curvature_within_two_standard_errors() -> None:
    model, panel, theta = ready(OWN[1])
    engine = likelihood(model, panel, Quadrature(9))
    x = engine.vector(theta)
    search = NewtonSearch(engine)
    search.value_and_gradient(x, scores=True)
    search.keep()
    root = np.linalg.cholesky(np.linalg.inv(search.latest.expected))
    for away, same in ((1.9, True), (2.1, False)):
        there = x + root[:, 0] * away
        found = search.value_and_gradient(there, scores=True)
        assert (search.latest is engine.last) is same
        plain = likelihood(model, panel, Quadrature(9)).value_and_gradient(there)
        np.testing.assert_allclose(found.gradient, plain.gradient, atol=1e-8)
