"""Every likelihood of several outcomes against differences of itself and its own parts."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from toys import random_theta

import dgmm
from dgmm import mv
from dgmm.likelihood import Likelihood, choose
from dgmm.likelihood.joint_gaussian import JointGaussian
from dgmm.likelihood.joint_laplace import JointLaplace
from dgmm.likelihood.joint_loadings import JointLoadings
from dgmm.likelihood.joint_quadrature import JointQuadrature
from dgmm.parameters import Theta

BY_NAME = ("y ~ x + t + (1 |p| id)", "z ~ x + (t |p| id)")
LOADED = ("y ~ x + t + (1 |p| id)", "z ~ t + load(p)")
CASES = {
    "free covariance": (BY_NAME, "gaussian", "exact", JointGaussian, 1e-8),
    "loadings": (LOADED, "gaussian", "exact", JointLoadings, 1e-8),
    "laplace": (BY_NAME, ["gaussian", "poisson"], "laplace", JointLaplace, 1e-8),
    "quadrature": (BY_NAME, ["gaussian", "poisson"], "quadrature", JointQuadrature, 2e-3),
}
every = pytest.mark.parametrize("case", CASES)


def data() -> pd.DataFrame:
    """Outcomes at different visits; of one subject nothing, of another one outcome only."""
    rng, n, visits = np.random.default_rng(8), 40, 5
    i, (b, c, d) = np.repeat(np.arange(n), visits), rng.normal(size=(3, n))
    found = pd.DataFrame({"id": i, "t": np.tile(np.linspace(-1, 1, visits), n)})
    found["x"] = rng.normal(size=n)[i]
    found["y"] = 1 + found.t + b[i] + 0.6 * rng.normal(size=len(i))
    found["z"] = rng.poisson(np.exp(1 + (0.3 * b + 0.4 * d)[i] + 0.5 * c[i] * found.t)).astype(
        float
    )
    found.loc[::3, "z"] = np.nan
    found.loc[found.id == 5, ["y", "z"]] = np.nan
    found.loc[found.id == 7, "y"] = np.nan
    return found


@cache
def made(case: str) -> tuple[Likelihood, Theta]:
    formulas, family, word, *_ = CASES[case]
    done = dgmm.mixed_model(mv(*formulas), data(), family=family, se=None, likelihood=word).estimate
    found = choose(done.model, done.panel, word, done.likelihood.integration)
    start = random_theta(done.model, 3, 0.1)
    return found, {name: value + start[name] for name, value in done.theta.items()}


@every
def test_it_is_the_one_that_was_meant(case: str) -> None:
    assert type(made(case)[0]) is CASES[case][3]


@every
def test_the_value_is_the_sum_over_subjects(case: str) -> None:
    ours, theta = made(case)
    each = ours.each(theta).value
    assert float(each.sum()) == pytest.approx(ours.value(theta), abs=1e-8)
    assert float(each[5]) == pytest.approx(0.0, abs=1e-12)


@every
def test_the_gradient_is_that_of_differences_and_the_sum_of_scores(case: str) -> None:
    ours, theta = made(case)
    packing, close = ours.model.packing, max(1e-6, CASES[case][4])
    x, found = packing.pack(theta), packing.pack(ours.value_and_gradient(theta)[1]).numpy()

    def value(j: int, h: float) -> float:
        unit = torch.zeros_like(x)
        unit[j] = h
        return ours.value(packing.unpack(x + unit))

    h = 1e-4
    slope = [
        (8 * (value(j, h) - value(j, -h)) - value(j, 2 * h) + value(j, -2 * h)) / (12 * h)
        for j in range(len(x))
    ]
    size = 1 + np.abs(found).max()
    np.testing.assert_allclose(found, slope, atol=close * size)
    scores = ours.scores(theta)
    np.testing.assert_allclose(scores.sum(0), found, atol=close * size)
    assert float(scores[5].abs().max()) < 1e-10


@every
def test_the_information_is_that_of_differences_of_the_gradient(case: str) -> None:
    ours, theta = made(case)
    packing = ours.model.packing
    H, x = ours.information(theta, packing).matrix, packing.pack(theta)
    for j in range(len(x)):
        unit = torch.zeros_like(x)
        unit[j] = 1e-4
        ahead, behind = (
            packing.pack(ours.value_and_gradient(packing.unpack(x + s * unit))[1]) for s in (1, -1)
        )
        close = (2e-4 if ours.word == "laplace" else max(1e-6, 5 * CASES[case][4])) * np.abs(
            H
        ).max()
        np.testing.assert_allclose(H[j], (ahead - behind) / 2e-4, atol=close)


@every
def test_on_some_subjects_it_is_their_part(case: str) -> None:
    ours, theta = made(case)
    chosen = np.array([7, 1, 5])
    part = ours.on(ours.panel.select(chosen)).each(theta).value
    np.testing.assert_allclose(part, ours.each(theta).value[chosen], atol=1e-9)


@every
def test_the_posterior_of_a_subject_without_outcomes_is_the_prior(case: str) -> None:
    ours, theta = made(case)
    found = ours.posterior(theta).effects()
    np.testing.assert_allclose(found.mean[0][5], 0.0, atol=1e-8)
    np.testing.assert_allclose(found.covariance[0][5], np.eye(ours.model.k), atol=1e-6)


@every
def test_a_posterior_nearby_is_the_posterior_there(case: str) -> None:
    ours, theta = made(case)
    moved = {name: value + 0.01 for name, value in theta.items()}
    near, there = ours.posteriors_near(theta)(moved).effects(), ours.posterior(moved).effects()
    atol = max(1e-6, CASES[case][4])
    np.testing.assert_allclose(near.mean[0].numpy(), there.mean[0].numpy(), atol=atol)
    np.testing.assert_allclose(near.covariance[0].numpy(), there.covariance[0].numpy(), atol=atol)
