"""The search by the average information against L-BFGS, on data of known optimum, and at zero."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from toys import build, crossed_frame

from dgmm.likelihood.crossed_search import search
from dgmm.likelihood.crossed_statistics import crossed_statistics
from dgmm.likelihood.profiling import maximise
from dgmm.likelihood.sufficient import profiled_deviance

TERMS = ("(1 | a) + (1 | b)", "(1 | a / c)", "(x | a) + (t | b)", "(1 | a / c) + (x || b)")


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("terms", TERMS)
def test_the_maximum_is_the_one_that_another_optimiser_finds(terms: str, reml: bool) -> None:
    model, panel = build(f"y ~ x + {terms}", crossed_frame(), weights="w")
    stats = crossed_statistics(model, panel)
    ours, theirs = search(stats, reml), maximise(stats, reml)
    assert ours.converged
    assert ours.log_likelihood > theirs.log_likelihood - 1e-8
    if ours.log_likelihood < theirs.log_likelihood + 1e-6:  # of several maxima it has the highest
        np.testing.assert_allclose(ours.beta, theirs.beta, atol=1e-4)
        D, other = ours.Lambda @ ours.Lambda.T, theirs.Lambda @ theirs.Lambda.T
        np.testing.assert_allclose(D, other, atol=1e-4)


def balanced(between: float) -> pd.DataFrame:
    """8 x 6 cells, a row in each, whose mean squares are known: that of g is ``between``."""
    rng = np.random.default_rng(6)
    y = rng.normal(size=(8, 6))
    rows, columns = y.mean(1, keepdims=True), y.mean(0, keepdims=True)
    inner = y - rows - columns + y.mean()
    inner *= np.sqrt(35 / (inner**2).sum())  # mean square 1
    g, h = rng.normal(size=(8, 1)), rng.normal(size=(1, 6))
    g, h = g - g.mean(), h - h.mean()
    g *= np.sqrt(between * 7 / 6 / (g**2).sum())
    h *= np.sqrt(9.0 * 5 / 8 / (h**2).sum())
    level = np.indices((8, 6)).reshape(2, -1)
    return pd.DataFrame({"y": (5 + inner + g + h).ravel(), "g": level[0], "h": level[1]})


def test_reml_of_a_balanced_table_is_its_analysis_of_variance() -> None:
    model, panel = build("y ~ 1 + (1 | g) + (1 | h)", balanced(4.0))
    found = search(crossed_statistics(model, panel), reml=True)
    np.testing.assert_allclose(np.exp(2 * found.log_sigma), 1.0, rtol=1e-6)
    variance = np.diag(found.Lambda) ** 2 * model.unit**2
    np.testing.assert_allclose(variance, [(4.0 - 1) / 6, (9.0 - 1) / 8], rtol=1e-5)


def test_a_variance_that_would_be_negative_is_zero() -> None:
    model, panel = build("y ~ 1 + (1 | g) + (1 | h)", balanced(0.3))
    stats = crossed_statistics(model, panel)
    found = search(stats, reml=True)
    pooled = (0.3 * 7 + 35) / 42
    np.testing.assert_allclose(np.exp(2 * found.log_sigma), pooled, rtol=1e-6)
    variance = np.diag(found.Lambda) ** 2 * model.unit**2
    np.testing.assert_allclose(variance, [0.0, (9.0 - pooled) / 8], rtol=1e-5)


def test_steps_by_the_average_information_are_few() -> None:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"s": rng.integers(0, 400, 6000), "d": rng.integers(0, 150, 6000)})
    effects = 0.3 * rng.normal(size=400)[frame.s] + 0.5 * rng.normal(size=150)[frame.d]
    frame["y"] = effects + rng.normal(size=6000)
    model, panel = build("y ~ 1 + (1 | s) + (1 | d)", frame)
    stats = crossed_statistics(model, panel)
    found = search(stats)
    assert found.evaluations <= 6
    sigma = np.exp(found.log_sigma) / model.unit
    at = profiled_deviance(stats, np.diag(found.Lambda) / sigma, restricted=False)
    assert np.abs(at.gradient).max() < 1e-3


@pytest.mark.parametrize("reml", [False, True])
def test_data_that_are_nearly_exact_are_fitted(reml: bool) -> None:
    """A residual standard deviation of 1e-4 beside effects of size one."""
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"a": rng.integers(0, 20, 400), "b": rng.integers(0, 10, 400)})
    effects = rng.normal(size=20)[data["a"]] + rng.normal(size=10)[data["b"]]
    data["y"] = effects + 1e-4 * rng.normal(size=400)
    stats = crossed_statistics(*build("y ~ 1 + (1 | a) + (1 | b)", data))
    ours, theirs = search(stats, reml), maximise(stats, reml)
    assert ours.converged
    assert ours.log_likelihood > theirs.log_likelihood - 1e-6
