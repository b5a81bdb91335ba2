"""The Gaussian likelihood of several grouping factors against dense normal algebra."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import as_crossed, build, crossed_frame, dense_crossed, frame, random_theta

from dgmm.likelihood.crossed_search import search
from dgmm.likelihood.crossed_statistics import crossed_statistics
from dgmm.likelihood.profiling import maximise
from dgmm.likelihood.statistics import statistics
from dgmm.likelihood.sufficient import GaussianValue, profiled_deviance
from dgmm.numerics.hessian import central_hessian

TERMS = (
    "(1 | a) + (1 | b)",
    "(1 | a / c)",
    "(t | a / c)",
    "(x | a) + (t | b) + (0 + t | a)",
    "(1 | a / c) + (x || b)",
    "(1 | a / b / c)",
)


@pytest.mark.parametrize("terms", TERMS)
def test_the_log_likelihood_is_that_of_the_dense_normal(terms: str) -> None:
    model, panel = build(f"y ~ x + {terms}", crossed_frame(), unit=0.7, weights="w")
    value = GaussianValue(crossed_statistics(model, panel))
    for seed in range(3):
        theta = random_theta(model, seed)
        found = value(model.packing.pack(theta).numpy())
        assert found == pytest.approx(dense_crossed(model, theta, panel), abs=1e-9)


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("terms", TERMS)
def test_the_gradient_is_that_of_the_deviance(terms: str, reml: bool) -> None:
    model, panel = build(f"y ~ x + {terms}", crossed_frame(), weights="w")
    stats = crossed_statistics(model, panel)
    entries = 0.5 + 0.1 * np.arange(len(stats.pattern.row))
    for at in (entries, np.where(stats.pattern.on_diagonal & (entries > 0.55), 0.0, entries)):
        numeric = [
            (
                profiled_deviance(stats, at + h, reml).value
                - profiled_deviance(stats, at - h, reml).value
            )
            / 2e-5
            for h in 1e-5 * np.eye(len(at))
        ]
        np.testing.assert_allclose(profiled_deviance(stats, at, reml).gradient, numeric, atol=1e-6)


@pytest.mark.parametrize("reml", [False, True])
def test_one_factor_is_what_the_exact_engine_says(reml: bool) -> None:
    model, panel = build("y ~ x + t + (t | id)", frame(), weights="w")
    one = maximise(statistics(model, panel), reml)
    other = search(crossed_statistics(model, as_crossed(panel)), reml)
    assert other.log_likelihood == pytest.approx(one.log_likelihood, abs=1e-8)
    np.testing.assert_allclose(other.vcov_gls, one.vcov_gls, rtol=1e-5)
    entries = np.array([0.7, 0.4, -0.2])
    ours = profiled_deviance(crossed_statistics(model, as_crossed(panel)), entries, reml)
    theirs = profiled_deviance(statistics(model, panel), entries, reml)
    assert ours.value == pytest.approx(theirs.value, abs=1e-9)
    np.testing.assert_allclose(ours.gradient, theirs.gradient, atol=1e-9)


@pytest.mark.parametrize("terms", ["(1 | a) + (1 | b)", "(1 | a / c)"])
def test_nothing_near_the_maximum_is_higher(terms: str) -> None:
    model, panel = build(f"y ~ x + {terms}", crossed_frame())
    stats = crossed_statistics(model, panel)
    profile = search(stats)
    log_diagonal = np.log(np.diag(profile.Lambda))
    x = np.concatenate([profile.beta, log_diagonal, [profile.log_sigma]])

    def dense(vector: np.ndarray) -> float:
        theta = model.packing.unpack(torch.from_numpy(vector))
        return dense_crossed(model, theta, panel)

    assert profile.log_likelihood == pytest.approx(dense(x), abs=1e-9)
    step = np.full(len(x), 1e-3)
    gradient = [(dense(x + h) - dense(x - h)) / 2e-3 for h in np.diag(step)]
    curvature = central_hessian(dense, x, step).matrix
    # what one more Newton step of the dense likelihood would add
    assert abs(gradient @ np.linalg.solve(curvature, gradient)) < 1e-6
