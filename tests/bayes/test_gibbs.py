"""The conditionals of the Gibbs sampler beside the dense normal algebra of the same model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from dgmm import mixed_model
from dgmm.bayes import Plan, Prior, Sampler, advance, begin, known, normal, prior, sampler_of
from dgmm.bayes.conditionals.coefficients import draw_coefficients
from dgmm.bayes.conditionals.effects import draw_effects
from dgmm.bayes.gibbs import Gibbs
from dgmm.bayes.sampler import State, inverse
from dgmm.mcmc import Streams

MANY = 3000


def crossed() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    N = 90
    frame = pd.DataFrame(
        {"g": rng.integers(0, 7, N), "h": rng.integers(0, 5, N), "x": rng.normal(2, 1, N)}
    )
    frame["w"] = rng.normal(size=7)[frame.g]
    effects = rng.normal(size=(7, 2))[frame.g]
    y = 100 + frame.x + effects[:, 0] + effects[:, 1] * frame.x + rng.normal(size=5)[frame.h]
    frame["y"] = y + rng.normal(size=N)
    frame["weight"] = rng.uniform(0.5, 2, N)
    frame.loc[[3, 60], "y"] = np.nan
    return frame


FORMULAS = {
    "one": "y ~ x + w + (1 + x | g)",
    "crossed": "y ~ x + w + (1 + x | g) + (1 | h)",
    "independent": "y ~ x + (1 + x || g)",
    "partly": "y ~ x + w + (1 | g)",
}


@pytest.fixture(scope="module", params=FORMULAS)
def pair(request: pytest.FixtureRequest) -> tuple[Gibbs, pd.DataFrame]:
    frame = crossed()
    fit = mixed_model(FORMULAS[request.param], frame, weights="weight", verbose=0, se=None)
    done = fit.estimate
    where = {"one": [0, 0, -1], "crossed": [0, 0, 0], "independent": [-1, 0]}.get(
        request.param, [0, 0, 0]
    )
    told = Prior(beta=normal(1.0, 20.0))
    sampler = sampler_of(done.model, done.panel, told, where)
    assert isinstance(sampler, Gibbs)
    return sampler, frame


def dense(sampler: Sampler) -> dict[str, Any]:
    """y, Z and T of every factor as matrices over the observed rows, in units of the weights."""
    rows, data = sampler.rows, sampler.seen.rows.data
    root = np.sqrt(data.weights.numpy())
    y = data.y.numpy() - rows.z @ sampler.pooled.beta
    T = []
    for factor, t, level in zip(sampler.layout.factors, rows.t, rows.level, strict=True):
        wide = np.zeros((len(y), factor.K, factor.m))
        wide[np.arange(len(y)), :, level] = t
        T.append(wide * root[:, None, None])
    Z = rows.z.copy()  # what is left of every column by least squares on the effects it is in
    for j, f in enumerate(sampler.centring.inside):
        if f >= 0:
            wide = (T[f] / root[:, None, None]).reshape(len(y), -1)
            Z[:, j] -= wide @ np.linalg.lstsq(wide, Z[:, j], rcond=None)[0]
    return {"y": y * root, "Z": Z * root[:, None], "T": T}


def state_of(sampler: Sampler) -> State:
    state = sampler.start(Streams.of(8, [0, 1]))
    rng = np.random.default_rng(2)
    state.u = [one + rng.normal(size=one.shape) for one in state.u]
    return state


def test_effects_have_the_mean_and_variance_of_the_dense_model(
    pair: tuple[Gibbs, pd.DataFrame],
) -> None:
    sampler, _ = pair
    state, parts = state_of(sampler), dense(sampler)
    for f, factor in enumerate(sampler.layout.factors):
        D, sigma2 = state.D[f][:, :, 1], np.exp(2 * state.extra[0, 1])
        left = parts["y"] - parts["Z"] @ state.beta[:, 1]
        for g, wide in enumerate(parts["T"]):
            if g != f:
                left = left - np.einsum("nkm,km->n", wide, state.u[g][:, 1])
        j, wide = 2, parts["T"][f]
        V = np.linalg.inv(np.linalg.inv(D) + wide[:, :, j].T @ wide[:, :, j] / sigma2)
        mean = sampler.mean(state, f)
        own = np.zeros(factor.K) if mean is None else mean[:, 1, j]
        centre = V @ (np.linalg.solve(D, own) + wide[:, :, j].T @ left / sigma2)
        drawn = many_effects(sampler, state, f)[:, j]
        assert np.abs(drawn.mean(0) - centre).max() < 4 * np.sqrt(V.max() / len(drawn))
        assert np.atleast_2d(np.cov(drawn.T)) == pytest.approx(
            V, abs=5 * V.max() * np.sqrt(2 / len(drawn))
        )


def many_effects(sampler: Gibbs, state: State, f: int) -> np.ndarray:
    """Draws of the effects of a factor from where the second chain is, (B, m, K)."""
    wide = State(
        *(np.repeat(one[..., 1:2], MANY, -1) for one in (state.beta,)),
        [np.repeat(one[:, 1:2], MANY, 1) for one in state.u],
        [np.repeat(one[..., 1:2], MANY, -1) for one in state.D],
        np.repeat(state.extra[:, 1:2], MANY, -1),
    )
    own = sampler.products.factors[f]
    rest = own.h - np.tensordot(own.H, wide.beta, axes=([1], [0])).swapaxes(1, 2)
    rest = rest - sampler._of_others(f, wide)
    precision, sigma2 = inverse(wide.D[f]), np.exp(2 * wide.extra[0])
    streams = Streams.of(3, range(MANY))
    drawn = draw_effects(own.G, rest, sampler.mean(wide, f), precision, sigma2, streams)
    return np.moveaxis(drawn, 0, -1)


def test_the_sum_of_squares_is_that_of_the_rows(pair: tuple[Gibbs, pd.DataFrame]) -> None:
    sampler, _ = pair
    state, parts = state_of(sampler), dense(sampler)
    found = sampler._squares_left(state, sampler._of_effects(state))
    for c in range(2):
        left = parts["y"] - parts["Z"] @ state.beta[:, c]
        for wide, u in zip(parts["T"], state.u, strict=True):
            left = left - np.einsum("nkm,km->n", wide, u[:, c])
        assert found[c] == pytest.approx(left @ left, rel=1e-9)


def test_coefficients_have_the_precision_and_mean_of_the_dense_model(
    pair: tuple[Gibbs, pd.DataFrame],
) -> None:
    """log p(beta, u, y) is quadratic in beta: its coefficients by differences of the density."""
    sampler, _ = pair
    state, parts = state_of(sampler), dense(sampler)
    sigma2 = np.exp(2 * state.extra[0])
    precision = [inverse(D) for D in state.D]
    P, shift = sampler.of_means(state, precision)
    others = sampler._of_effects(state)
    P = P + sampler.products.RR[:, :, None] / sigma2
    shift = shift + (sampler.products.Ry - others) / sigma2

    def height(beta: np.ndarray) -> float:
        prior_mean = sampler.prior.mean * sampler.layout.size - sampler.pooled.beta
        total = -0.5 * (beta - prior_mean) @ sampler.prior_precision @ (beta - prior_mean)
        left = parts["y"] - parts["Z"] @ beta
        for f, (wide, u) in enumerate(zip(parts["T"], state.u, strict=True)):
            left = left - np.einsum("nkm,km->n", wide, u[:, 0])
            gamma = u[:, 0] - np.einsum("kpm,p->km", sampler.centring.E[f], beta)
            total -= 0.5 * np.einsum("am,ab,bm->", gamma, precision[f][:, :, 0], gamma)
        return float(total - 0.5 * left @ left / sigma2[0])

    p = sampler.layout.p
    at, step = np.zeros(p), np.eye(p)
    for a in range(p):
        slope = (height(at + step[a]) - height(at - step[a])) / 2
        assert slope == pytest.approx(shift[a, 0], rel=1e-7, abs=1e-7)
        for b in range(p):
            mixed = (
                height(at + step[a] + step[b])
                - height(at + step[a] - step[b])
                - height(at - step[a] + step[b])
                + height(at - step[a] - step[b])
            ) / 4
            assert -mixed == pytest.approx(P[a, b, 0], rel=1e-6, abs=1e-6)
    streams = Streams.of(4, [0, 1])
    drawn = np.array([draw_coefficients(P, shift, streams)[:, 0] for _ in range(3000)])
    V = np.linalg.inv(P[:, :, 0])
    assert (np.abs(drawn.mean(0) - V @ shift[:, 0]) < 4 * np.sqrt(np.diag(V) / 3000)).all()


def test_missing_outcomes_are_drawn_about_their_predictor(pair: tuple[Gibbs, pd.DataFrame]) -> None:
    sampler, frame = pair
    state = state_of(sampler)
    rng = np.random.default_rng(1)
    drawn = np.array([sampler.missing(state, rng.uniform(size=2)) for _ in range(2000)])
    gap = np.flatnonzero(~sampler.panel.observed.numpy())
    rows = sampler.layout.rows(sampler.panel)
    eta = rows.offset + rows.z @ sampler.coefficients(state)[:, 0]
    for f, (t, level) in enumerate(zip(rows.t, rows.level, strict=True)):
        eta = eta + np.einsum("nk,kn->n", t, sampler.gamma(state, f)[:, 0][:, level])
    weight = sampler.panel.rows.data.weights.numpy()[gap]
    sd = np.exp(state.extra[0, 0]) / np.sqrt(weight)
    assert (np.abs(drawn[:, :, 0].mean(0) - eta[gap]) < 4 * sd / np.sqrt(2000)).all()
    assert drawn[:, :, 0].std(0) == pytest.approx(sd, rel=0.08)
    assert len(gap) == int(frame["y"].isna().sum())


def test_a_covariate_that_levels_share_is_centred_by_its_means() -> None:
    """Its coefficient and the effects leave each other free; with known variances it is normal."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(60), 7)
    x = 40 + 8 * rng.normal(size=60)[g] + rng.normal(size=420)
    frame = pd.DataFrame({"g": g, "x": x})
    frame["y"] = 1 + 0.3 * x + 2 * rng.normal(size=60)[g] + 0.4 * rng.normal(size=420)
    told = prior(beta=normal(0, 50), cov=known(4.0), sigma2=known(0.16))
    options: dict[str, Any] = {"method": "gibbs", "prior": told, "verbose": 0}
    fit = mixed_model("y ~ x + (1 | g)", frame, draws=500, warmup=50, **options)
    assert fit.estimate.chains is not None
    assert fit.estimate.chains.inside == (0, 0)
    V = np.kron(np.eye(60), np.full((7, 7), 4.0)) + 0.16 * np.eye(420)
    X = np.column_stack([np.ones(420), x])
    P = X.T @ np.linalg.solve(V, X) + np.eye(2) / 2500
    mean = np.linalg.solve(P, X.T @ np.linalg.solve(V, frame["y"]))
    table = fit.posterior_table()
    assert (np.abs(table["Mean"][:2] - mean) < 4 * table["MCSE"][:2]).all()
    np.testing.assert_allclose(table["SD"][:2], np.sqrt(np.diag(np.linalg.inv(P))), rtol=0.05)
    assert table["ESS bulk"][:2].min() > 1200  # of 2000; 12 with the covariate outside


def test_a_chain_is_the_same_alone_and_beside_others(pair: tuple[Gibbs, pd.DataFrame]) -> None:
    sampler, plan = pair[0], Plan(warmup=5, draws=10, thin=2)
    (both,) = advance(sampler, [begin(sampler, 4, [0, 1])], plan)
    for chain in (0, 1):
        (alone,) = advance(sampler, [begin(sampler, 4, [chain])], plan)
        for one, other in zip(both.beta, alone.beta, strict=True):
            np.testing.assert_allclose(one[:, chain], other[:, 0], rtol=1e-9, atol=1e-9)
        for one, other in zip(both.missing, alone.missing, strict=True):
            np.testing.assert_allclose(one[:, chain], other[:, 0], rtol=1e-9)
