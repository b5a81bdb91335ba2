"""Moves of Metropolis-within-Gibbs that leave the likelihood alone, beside their densities."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

from dgmm import mixed_model
from dgmm.bayes import Prior, known, normal, prior, sampler_of
from dgmm.bayes.conditionals.location import draw_location
from dgmm.bayes.metropolis import Metropolis
from dgmm.bayes.sampler import State, inverse
from dgmm.mcmc import Streams

MANY = 4000


def crossed(N: int = 240) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    frame = pd.DataFrame(
        {"a": rng.integers(0, 12, N), "b": rng.integers(0, 9, N), "x": rng.normal(size=N)}
    )
    eta = 0.7 + 0.3 * frame.x + 0.5 * rng.normal(size=12)[frame.a]
    eta = eta + 0.5 * rng.normal(size=9)[frame.b]
    frame["count"] = rng.poisson(np.exp(eta)).astype(float)
    cut = (eta.to_numpy() + rng.logistic(size=N))[:, None] > np.array([0.0, 1.0, 2.0])
    frame["grade"] = pd.Categorical(1 + cut.sum(1), categories=[1, 2, 3, 4], ordered=True)
    return frame


def begun(outcome: str, family: str) -> tuple[Metropolis, State]:
    fit = mixed_model(
        f"{outcome} ~ x + (x | a) + (1 | b)", crossed(), family=family, verbose=0, se=None
    )
    sampler = sampler_of(fit.estimate.model, fit.estimate.panel, Prior())
    assert isinstance(sampler, Metropolis)
    state, rng = sampler.start(Streams.of(1, [0, 1])), np.random.default_rng(2)
    state.u = [one + rng.normal(size=one.shape) for one in state.u]
    return sampler, state


def test_thresholds_move_with_the_effects_as_their_priors_say() -> None:
    rng = np.random.default_rng(1)
    gamma, D = rng.normal(size=(2, 1, 7)), np.array([[1.3, 0.4], [0.4, 0.8]])
    a, s, value = 0.5, 1.2, 2.0
    Q = np.linalg.inv(D)

    def height(d: float) -> float:
        moved = gamma[:, 0] + np.array([[d], [0.0]])
        inner = np.einsum("am,ab,bm->", moved, Q, moved)
        return float(-0.5 * ((value + d - a) / s) ** 2 - 0.5 * inner)

    P = -(height(1) - 2 * height(0) + height(-1))
    mean = (height(1) - height(-1)) / 2 / P
    wide = np.repeat(gamma, MANY, axis=1)
    precision = np.repeat(Q[:, :, None], MANY, axis=2)
    gap = np.full(MANY, value - a)
    drawn = draw_location(wide, precision, 0, gap, s, Streams.of(1, range(MANY)))
    assert stats.kstest(drawn, stats.norm(mean, P**-0.5).cdf).pvalue > 1e-3


def test_the_likelihood_is_the_same_after_thresholds_and_effects_have_moved() -> None:
    sampler, state = begun("grade", "cumulative")
    eta = sampler.predictor(state)
    before = sampler.heights(eta, state.extra)
    precision = [inverse(D) for D in state.D]
    old = state.extra.copy()
    moved = sampler._location(state, precision, eta, Streams.of(3, [0, 1]))
    assert np.abs(state.extra[0] - old[0]).min() > 1e-3
    assert moved == pytest.approx(sampler.predictor(state), abs=1e-10)
    assert sampler.heights(moved, state.extra) == pytest.approx(before, rel=1e-9)


def test_the_predictor_is_the_same_after_coefficients_have_moved_in_every_factor() -> None:
    sampler, state = begun("count", "poisson")
    eta, beta = sampler.predictor(state), state.beta.copy()
    precision, streams = [inverse(D) for D in state.D], Streams.of(3, [0, 1])
    assert [list(one.centring.inside) for one in sampler._elsewhere] == [[0, 0], [1, -1]]
    for other in sampler._elsewhere:
        other.recentred(state, sampler)
        other._means(state, precision, streams)
        sampler.recentred(state, other)
        assert sampler.predictor(state) == pytest.approx(eta, abs=1e-10)
    assert np.abs(state.beta - beta).min() > 1e-4


@pytest.mark.parametrize(
    ("outcome", "family", "scalar"),
    [("count", "poisson", "(Intercept)"), ("grade", "cumulative", "2|3")],
)
def test_levels_of_crossed_models_mix(outcome: str, family: str, scalar: str) -> None:
    """Given the effects of one factor alone the intercept had one draw in a hundred."""
    fit = mixed_model(
        f"{outcome} ~ x + (1 | a) + (1 | b)",
        crossed(),
        family=family,
        method="gibbs",
        draws=400,
        warmup=200,
        verbose=0,
    )
    table = fit.posterior_table()
    assert table["ESS bulk"][scalar] > 0.2 * 1600
    assert table["R-hat"][scalar] < 1.01


def test_a_covariate_centred_by_its_means_has_the_posterior_of_quadrature() -> None:
    """One coefficient of counts, the variance known: its density on a grid, b by 40 nodes."""
    rng = np.random.default_rng(7)
    g = np.repeat(np.arange(25), 6)
    x = 1.5 + 0.5 * rng.normal(size=25)[g] + 0.4 * rng.normal(size=150)
    y = rng.poisson(np.exp(0.8 * x + 0.7 * rng.normal(size=25)[g]))
    frame = pd.DataFrame({"g": g, "x": x, "y": y})
    told = prior(beta=normal(0, 2), cov=known(0.49))
    options = {"family": "poisson", "method": "gibbs", "prior": told, "verbose": 0}
    fit = mixed_model("y ~ 0 + x + (1 | g)", frame, draws=500, warmup=200, **options)
    assert fit.estimate.chains is not None
    assert fit.estimate.chains.inside == (0,)
    assert float(fit.estimate.chains.acceptance["deviations"].min()) > 0.6
    node, weight = np.polynomial.hermite_e.hermegauss(40)
    grid = np.linspace(0.3, 1.3, 401)
    eta = grid[:, None, None] * x[:, None] + 0.7 * node
    rows = y[:, None] * eta - np.exp(eta)
    groups = np.add.reduceat(rows, np.arange(0, 150, 6), axis=1)
    log = special.logsumexp(groups + np.log(weight), axis=2).sum(1) - grid**2 / 8
    density = np.exp(log - log.max())
    density /= density.sum()
    mean = density @ grid
    sd = np.sqrt(density @ (grid - mean) ** 2)
    row = fit.posterior_table().loc["x"]
    assert abs(row["Mean"] - mean) < 4 * row["MCSE"]
    assert row["SD"] == pytest.approx(sd, rel=0.08)
    assert row["ESS bulk"] > 500
