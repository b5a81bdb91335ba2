"""Models with paths by the Kalman filter, against dense normal densities written out by formula."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch
from scipy import stats
from torch import Tensor
from toys import build, generator, ou_frame, random_theta

import dgmm
from dgmm.likelihood import Integration, Likelihood, choose
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta, part

FORMULAS = {
    "ou": "y ~ time + w + (ou(time) | id)",
    "intercept and ou": "y ~ time + w + (1 | id) + (ou(time) | id)",
    "slope and ou": "y ~ time + w + (time | id) + (ou(time) | id)",
    "ar1": "y ~ w + (ar1(visit) | id)",
    "slope and ar1": "y ~ w + (visit | id) + (ar1(visit) | id)",
    "rw": "y ~ time + w + (rw(time) | id)",
    "slope and rw": "y ~ time + w + (time | id) + (rw(time) | id)",
    "ou and rw": "y ~ w + (ou(time) | id) + (rw(time) | id)",
    "llt": "y ~ time + w + (1 + time | id) + (llt(time) | id)",
    "diffuse rw": "y ~ 0 + w + (rw(time, start='diffuse') | id)",
    "slope and diffuse rw": "y ~ 0 + w + (0 + time | id) + (rw(time, start='diffuse') | id)",
    "diffuse llt": "y ~ 0 + w + (llt(time, start='diffuse') | id)",
    "diffuse rw and ou": "y ~ 0 + w + (ou(time) | id) + (rw(time, start='diffuse') | id)",
}
PROPER = [case for case in FORMULAS if "diffuse" not in case]


def data(n: int = 9, seed: int = 0) -> pd.DataFrame:
    """3 to 8 irregular visits, every fifth outcome missing, rows not in order."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(n):
        J = int(rng.integers(3, 9))
        times = np.sort(rng.uniform(0, 6, J)).round(3)
        visit = np.sort(rng.choice(np.arange(1, 15), J, replace=False))
        one = {"id": i, "time": times, "visit": visit, "w": rng.normal(size=J)}
        y = 2 + 0.4 * times + rng.normal() + np.cumsum(rng.normal(size=J)) + rng.normal(size=J)
        rows.append(pd.DataFrame({**one, "y": y, "size": rng.uniform(0.5, 3, J)}))
    frame = pd.concat(rows, ignore_index=True)
    frame.loc[::5, "y"] = np.nan
    return frame.sample(frac=1, random_state=3)


def covariance(model: Model, theta: Theta, T: tuple[Tensor, ...]) -> Tensor:
    """var(mu2) of the rows of a subject, a formula for every kind of term."""
    total = torch.zeros(len(T[0]), len(T[0]), dtype=torch.float64)
    for i, (latent, own) in enumerate(zip(model.latents, T, strict=True)):
        weights = part(theta, f"latent{i + 1}.")
        if latent.by_columns:
            Lambda = latent.loadings(weights)
            total = total + own @ Lambda @ Lambda.T @ own.T
            continue
        distance, value = (own - own.T).abs(), latent.reported(weights)
        begun = own[:1] if latent.flat else torch.tensor(latent.origin, dtype=torch.float64)
        t = own - begun
        s, u = torch.minimum(t, t.T), torch.maximum(t, t.T)
        if latent.name == "ou":
            total = total + value[0] ** 2 * torch.exp(-distance / value[1])
        elif latent.name == "ar1":
            total = total + value[0] ** 2 * value[1].sign() ** distance * value[1].abs() ** distance
        elif latent.name == "rw":
            total = total + value[0] ** 2 * s
        else:  # a Brownian level and an integrated Brownian slope
            total = total + value[0] ** 2 * s + value[1] ** 2 * (s**2 * u / 2 - s**3 / 6)
    return total


def flat_columns(model: Model, T: tuple[Tensor, ...]) -> Tensor:
    """Powers of time, of paths that begin anywhere."""
    found = [
        own ** torch.arange(latent.flat)
        for latent, own in zip(model.latents, T, strict=True)
        if latent.by_states
    ]
    return torch.cat(found, dim=1).double()


def subjects(panel: Panel) -> list[slice]:
    ends = torch.cumsum(panel.count, 0).tolist()
    return [slice(e - c, e) for e, c in zip(ends, panel.count.tolist(), strict=True)]


def dense(model: Model, theta: Theta, panel: Panel, restricted: bool = False) -> Tensor:
    """l_i of every subject by normal densities, flat priors and, for REML, beta integrated out.

    A flat prior counts log 2 pi once more for each of its columns.
    """
    rows, sigma2 = panel.rows, torch.exp(2 * theta["extra"][-1])
    y = rows.data.y - rows.offset
    each, XVX, XVy, yVy = [], 0.0, 0.0, 0.0
    for at in subjects(panel):
        T = tuple(own[at] for own in rows.T)
        V = covariance(model, theta, T) + torch.diag(sigma2 / rows.data.weights[at])
        F, inverse = flat_columns(model, T), torch.linalg.inv(V)
        log_det = torch.logdet(V)
        if F.shape[1]:
            inner = F.T @ inverse @ F
            inverse = inverse - inverse @ F @ torch.linalg.solve(inner, F.T @ inverse)
            log_det = log_det + torch.logdet(inner)
        X, own = rows.X[at], y[at]
        r = own - X @ model.beta(theta)
        each.append(-0.5 * (len(V) * math.log(2 * math.pi) + log_det + r @ inverse @ r))
        XVX, XVy = XVX + X.T @ inverse @ X, XVy + X.T @ inverse @ own
        yVy = yVy + r @ inverse @ r
    if not restricted:
        return torch.stack(each)
    gone = torch.linalg.solve(XVX, XVy) - model.beta(theta)
    p = len(XVX)
    extra = 0.5 * (gone @ XVX @ gone + p * math.log(2 * math.pi) - torch.logdet(XVX))
    return torch.stack(each).sum() + extra


def made(case: str, weights: str = "size") -> tuple[Model, Panel, Theta]:
    model, panel = build(FORMULAS[case], data(), unit=0.7, weights=weights)
    return model, panel, random_theta(model, 3)


def by(model: Model, panel: Panel, restricted: bool = False) -> Likelihood:
    return choose(model, panel, "filter", restricted=restricted)


# -- the function ----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", FORMULAS)
def test_the_likelihood_is_the_dense_normal_density(case: str) -> None:
    model, panel, theta = made(case)
    expected = dense(model, theta, panel.observed_rows())
    found = by(model, panel)
    assert torch.allclose(found.each(theta).value, expected, atol=1e-9, rtol=0)
    assert found.value(theta) == pytest.approx(float(expected.sum()), abs=1e-9)
    restricted = by(model, panel, restricted=True)
    reml = float(dense(model, theta, panel.observed_rows(), restricted=True))
    assert restricted.value(theta) == pytest.approx(reml, abs=1e-9)


@pytest.mark.parametrize("case", FORMULAS)
def test_gradient_and_scores_are_those_of_the_dense_density(case: str) -> None:
    model, panel, theta = made(case)
    packing = model.packing

    def value(x: Tensor) -> Tensor:
        return dense(model, packing.unpack(x), panel.observed_rows())

    scores = torch.autograd.functional.jacobian(value, packing.pack(theta))
    found = by(model, panel)
    gradient = packing.pack(found.value_and_gradient(theta)[1])
    assert torch.allclose(gradient, scores.sum(0), atol=1e-8)
    assert torch.allclose(found.scores(theta), scores, atol=1e-8)


@pytest.mark.parametrize("case", ["slope and ou", "llt", "diffuse rw and ou"])
def test_the_restricted_gradient_and_the_hessians_are_those_of_the_dense_density(case: str) -> None:
    model, panel, theta = made(case)
    packing = model.packing

    def value(x: Tensor, restricted: bool) -> Tensor:
        return dense(model, packing.unpack(x), panel.observed_rows(), restricted).sum()

    x = packing.pack(theta)
    expected = torch.autograd.functional.jacobian(lambda at: value(at, True), x)
    gradient = packing.pack(by(model, panel, True).value_and_gradient(theta)[1])
    p = len(model.names)  # beta is integrated out, the slope in it is not asked for
    assert torch.allclose(gradient[p:], expected[p:], atol=1e-8)
    hessian = torch.autograd.functional.hessian(lambda at: value(at, False), x)
    own = by(model, panel).information(theta, packing).matrix
    np.testing.assert_allclose(own, hessian, rtol=1e-4, atol=1e-4 * float(hessian.abs().max()))


@pytest.mark.parametrize("case", ["intercept and ou", "llt"])
def test_paths_known_at_an_origin_do_not_depend_on_rows_that_were_not_seen(case: str) -> None:
    model, panel, theta = made(case)
    found = by(model, panel)
    masked = found.on(panel.masked_rows())
    assert torch.allclose(masked.each(theta).value, found.each(theta).value, atol=1e-10)


# -- states ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", FORMULAS)
def test_what_is_predicted_is_the_conditional_normal(case: str) -> None:
    """At rows seen and not seen; under a flat prior by generalised least squares."""
    model, panel, theta = made(case)
    seen = panel.observed_rows()
    both, _ = seen.joined(panel, seen.rows.data)
    rows = replace(both, masked=False)
    found = by(model, panel).on(both).posterior(theta)
    eta = found.predictive(rows, "link")
    draws = found.draws(rows, 3000, generator(2))
    sigma2 = torch.exp(2 * theta["extra"][-1])
    mu1 = model.mu1(model.prepare(theta), both.rows)
    for at in subjects(both):
        T, known = tuple(own[at] for own in both.rows.T), both.observed[at]
        C, F = covariance(model, theta, T), flat_columns(model, T)
        V = (C + torch.diag(sigma2 / both.rows.data.weights[at]))[known][:, known]
        gain = torch.linalg.solve(V, C[known]).T
        r = (both.rows.data.y[at] - mu1[at])[known]
        mean, var = gain @ r, C - gain @ C[known]
        if F.shape[1]:
            free, own = F - gain @ F[known], F[known]
            inner = torch.linalg.inv(own.T @ torch.linalg.solve(V, own))
            mean = mean + free @ inner @ own.T @ torch.linalg.solve(V, r)
            var = var + free @ inner @ free.T
        assert torch.allclose(eta.mean[at] - mu1[at], mean, atol=1e-9)
        assert torch.allclose(eta.variance[at], var.diagonal(), atol=1e-9)
        error = (var.diagonal() / 3000).sqrt()
        assert ((draws[:, at].mean(0) - eta.mean[at]).abs() < 5 * error + 1e-9).all()
        wide = (var.square() + torch.outer(var.diagonal(), var.diagonal())) / 3000
        assert ((torch.cov(draws[:, at].T) - var).abs() < 5 * wide.sqrt() + 1e-9).all()


@pytest.mark.parametrize("case", FORMULAS)
def test_the_mean_noise_makes_the_mean_states(case: str) -> None:
    model, panel, theta = made(case)
    masked = panel.masked_rows()
    found = by(model, panel).on(masked).posterior(theta)
    (b,) = found.effects().mean
    block = panel.block(torch.arange(panel.n))
    sized = model.sized(panel)
    ready = sized.prepare(theta)
    eta = sized.mu1(ready, block.rows) + sized.mu2(ready, b, block.rows)
    expected = found.predictive(panel, "link").mean
    assert torch.allclose(eta[block.mask], expected[block.index[block.mask]], atol=1e-9)


@pytest.mark.parametrize("case", ["slope and ou", "slope and rw"])
def test_random_effects_beside_a_path_have_their_conditional_covariance(case: str) -> None:
    model, panel, theta = made(case)
    found = by(model, panel).posterior(theta).effects().covariance[0][:, :2, :2]
    seen, sigma2 = panel.observed_rows(), torch.exp(2 * theta["extra"][-1])
    Lambda = model.latents[0 if model.latents[0].by_columns else 1].loadings(
        part(theta, "latent1.")
    )
    for i, at in enumerate(subjects(seen)):
        T = tuple(own[at] for own in seen.rows.T)
        V = covariance(model, theta, T) + torch.diag(sigma2 / seen.rows.data.weights[at])
        TL = T[0] @ Lambda
        expected = torch.eye(2, dtype=torch.float64) - TL.T @ torch.linalg.solve(V, TL)
        assert torch.allclose(found[i], expected, atol=1e-10)


@pytest.mark.parametrize("case", ["slope and ou", "ou and rw", "llt", "diffuse rw", "diffuse llt"])
def test_states_are_conditional_normals(case: str) -> None:
    """Levels by their covariance with the outcome, slopes of a trend by theirs with its level."""
    model, panel, theta = made(case)
    masked = panel.masked_rows()
    mean, variance = by(model, panel).on(masked).posterior(theta).states()
    sigma2, mu1 = torch.exp(2 * theta["extra"][-1]), model.mu1(model.prepare(theta), panel.rows)
    at_state = 0
    for i, latent in enumerate(model.latents):
        if not latent.by_states:
            continue
        value = latent.reported(part(theta, f"latent{i + 1}."))
        for k, (_, factor) in enumerate(latent.state_names()):
            for at in subjects(panel):
                T, known = tuple(own[at] for own in panel.rows.T), panel.observed[at]
                t = T[i] - (T[i][:1] if latent.flat else latent.origin)
                if k == 0:
                    C = only(model, theta, T, i)
                    own = C.diagonal()
                    F = T[i] ** torch.arange(max(latent.flat, 1))
                else:
                    low = torch.minimum(t, t.T)
                    C = value[1] ** 2 * (t.T * low - low**2 / 2)
                    own = value[1] ** 2 * t[:, 0]
                    F = torch.tensor([[0.0, 1.0]], dtype=torch.float64).expand(len(t), 2)
                V = covariance(model, theta, T) + torch.diag(sigma2 / panel.rows.data.weights[at])
                V, cross = V[known][:, known], C[:, known]
                gain = torch.linalg.solve(V, cross.T).T
                r = (panel.rows.data.y[at] - mu1[at])[known]
                expected, spread = gain @ r, own - (gain * cross).sum(1)
                if latent.flat:
                    G = flat_columns(model, T)[known]
                    free = F - gain @ G
                    inner = torch.linalg.inv(G.T @ torch.linalg.solve(V, G))
                    expected = expected + free @ inner @ G.T @ torch.linalg.solve(V, r)
                    spread = spread + (free @ inner * free).sum(1)
                assert torch.allclose(factor * mean[at_state, at], expected, atol=1e-9)
                assert torch.allclose(factor**2 * variance[at_state, at], spread, atol=1e-9)
            at_state += 1


def only(model: Model, theta: Theta, T: tuple[Tensor, ...], i: int) -> Tensor:
    """var of what one term adds."""
    alone = replace(model, latents=(model.latents[i],))
    own = {f"latent1.{name}": value for name, value in part(theta, f"latent{i + 1}.").items()}
    return covariance(alone, own, (T[i],))


def test_the_table_of_states_has_a_row_for_every_row() -> None:
    frame = data(20)
    fit = dgmm.mixed_model(FORMULAS["llt"], frame, verbose=0)
    table = fit.states()
    assert table.columns.tolist()[:2] == ["id", "time"]
    assert table.index.equals(frame.index)
    beta, rows = fit.fixef(), fit.ranef().loc[table["id"]].to_numpy()
    fixed = beta.iloc[0] + beta["time"] * frame["time"] + beta["w"] * frame["w"]
    random = rows[:, 0] + rows[:, 1] * frame["time"].to_numpy()
    total = fixed + random + table["llt(time):level"]
    np.testing.assert_allclose(total, fit.fitted(), atol=1e-8)
    assert (table["sd(llt(time):slope)"] >= 0).all()
    with pytest.raises(ValueError, match="models with a path"):
        dgmm.mixed_model("y ~ w + (1 | id)", frame, verbose=0).states()


# -- white noise -----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", FORMULAS)
def test_white_noise_makes_the_covariance_of_the_process(case: str) -> None:
    model, panel, theta = made(case)
    panel = panel.observed_rows()
    block = panel.block(torch.arange(panel.n))
    zero = torch.zeros(panel.n, model.k, dtype=torch.float64)
    J, ready = model.jacobian(theta, zero, block.rows), model.prepare(theta)
    b = torch.randn(panel.n, model.k, generator=generator(), dtype=torch.float64)
    value = model.mu2(ready, b, block.rows)
    assert torch.allclose(value, torch.einsum("njk,nk->nj", J, b), atol=1e-12)
    flat = torch.cat([torch.arange(one.dim) < one.flat for one in model.latents])
    for i, at in enumerate(subjects(panel)):
        own, T = J[i, : int(panel.count[i])], tuple(T[at] for T in panel.rows.T)
        made_of = own[:, ~flat] @ own[:, ~flat].T
        assert torch.allclose(made_of, covariance(model, theta, T), atol=1e-12)
        span, F = own[:, flat], flat_columns(model, T)
        if F.shape[1]:
            left = F - span @ torch.linalg.lstsq(span, F).solution
            assert float(left.abs().max()) < 1e-10


# -- fits ------------------------------------------------------------------------------------------


@cache
def reference(id: str) -> dict[str, object]:
    from conftest import reference as read

    return read("ou", id)


@pytest.mark.parametrize(
    ("id", "formula", "frame"),
    [
        ("ou", "y ~ x + (ou(time) | id)", ou_frame),
        ("ou_intercept", "y ~ x + (1 | id) + (ou(time) | id)", ou_frame),
    ],
)
def test_maxima_are_not_below_those_of_nlme_and_glmmtmb(
    id: str, formula: str, frame: object
) -> None:
    ref = reference(id)
    fit = dgmm.mixed_model(formula, frame(), verbose=0)
    value = fit.loglik().value
    assert value == pytest.approx(ref["log_likelihood"], abs=1e-6)
    for other in ref["others"].values():
        assert value > other["log_likelihood"] - 1e-6
    table = fit.var_corr()
    (found,) = table[table["kind"] == "range"]["sdcor"]
    assert found == pytest.approx(ref["range"], rel=1e-4)
    np.testing.assert_allclose(fit.std_errors(), ref["se_full"], rtol=1e-3)
    assert "exact (Kalman filter)" in str(fit.summary())


def test_restricted_maximum_likelihood_is_that_of_a_dense_search() -> None:
    frame = ou_frame()
    fit = dgmm.mixed_model("y ~ x + (1 | id) + (ou(time) | id)", frame, method="reml", verbose=0)
    model, panel = build("y ~ x + (1 | id) + (ou(time) | id)", frame, unit=fit.estimate.model.unit)
    theta = fit.estimate.theta
    value = dense(model, theta, panel.observed_rows(), restricted=True)
    assert fit.loglik().value == pytest.approx(float(value), abs=1e-7)
    own = model.packing.only(name for name in model.packing.shapes if name != "beta")

    def at(x: Tensor) -> Tensor:
        return dense(model, {**theta, **own.unpack(x)}, panel.observed_rows(), restricted=True)

    slope = torch.autograd.functional.jacobian(at, own.pack(theta))
    assert float(slope.abs().max()) < 1e-4
    ml = dgmm.mixed_model("y ~ x + (1 | id) + (ou(time) | id)", frame, verbose=0)
    assert fit.sigma() > ml.sigma()
    assert (fit.std_errors() > ml.std_errors()).all()


@pytest.mark.parametrize(("shift", "scale"), [(1e8, 1.0), (0.0, 1e-6), (-3e5, 1e5)])
def test_origin_and_unit_of_the_outcome_do_not_matter(shift: float, scale: float) -> None:
    frame, formula = ou_frame(), "y ~ x + (1 | id) + (ou(time) | id)"
    plain = dgmm.mixed_model(formula, frame, verbose=0)
    moved = dgmm.mixed_model(formula, frame.assign(y=scale * (frame["y"] + shift)), verbose=0)
    N = frame["y"].notna().sum()
    value = moved.loglik().value + N * math.log(scale)
    assert value == pytest.approx(plain.loglik().value, abs=2e-5 if shift == 1e8 else 1e-6)
    np.testing.assert_allclose(moved.sigma() / scale, plain.sigma(), rtol=1e-4)


def test_calendar_years_are_times_like_others() -> None:
    frame, formula = ou_frame(), "y ~ time + x + (time | id) + (ou(time) | id)"
    plain = dgmm.mixed_model(formula, frame, verbose=0)
    late = dgmm.mixed_model(formula, frame.assign(time=frame["time"] / 365.25 + 2000), verbose=0)
    assert late.loglik().value == pytest.approx(plain.loglik().value, abs=1e-6)
    assert late.fixef()["x"] == pytest.approx(plain.fixef()["x"], rel=1e-5)


def test_the_nile_with_a_diffuse_start() -> None:
    """Durbin and Koopman (2012), sections 2.2 and 2.6: variances, and the forecast of 1971."""
    nile = sm.datasets.nile.load_pandas().data.assign(river="Nile")
    fit = dgmm.mixed_model("volume ~ 0 + (rw(year, start='diffuse') | river)", nile, verbose=0)
    assert fit.loglik().value == pytest.approx(-633.4645636, abs=1e-6)
    np.testing.assert_allclose(fit.var_corr()["vcov"], [1469.1, 15098.5], rtol=1e-3)
    assert "diffuse start, exactly" in str(fit.summary())
    ahead = pd.DataFrame({"year": [1971, 1980], "river": "Nile"})
    forecast = fit.predict(ahead, interval=None)["fit"]
    np.testing.assert_allclose(forecast, 798.37, atol=0.01)
    reml = dgmm.mixed_model("volume ~ 1 + (rw(year) | river)", nile, method="reml", verbose=0)
    same = reml.loglik().value - 0.5 * math.log(2 * math.pi)  # a level is a flat column
    assert same == pytest.approx(fit.loglik().value, abs=1e-8)
    with pytest.raises(ValueError, match="population has no distribution"):
        fit.simulate(1, seed=1)


def test_a_forecast_is_what_the_filter_expects_k_steps_ahead() -> None:
    """Of a subject by its history: the state, which falls back to zero, its variance to sd^2."""
    frame = ou_frame()
    fit = dgmm.mixed_model("y ~ x + (ou(time) | id)", frame, verbose=0)
    sd, scale, sigma = fit.var_corr()["sdcor"]
    past = pd.DataFrame({"id": "new", "x": 0.0, "time": [1.0, 2.5, 3.0], "y": [2.0, 1.0, 3.0]})
    ahead = pd.DataFrame({"id": "new", "x": 0.0, "time": [3.0, 4.0, 7.0, 300.0]})
    found = fit.predict(ahead, history=past, interval="prediction", level=0.95)
    t, level = past["time"].to_numpy(), fit.fixef()["(Intercept)"]
    V = sd**2 * np.exp(-np.abs(t[:, None] - t) / scale) + sigma**2 * np.eye(3)
    C = sd**2 * np.exp(-np.abs(ahead["time"].to_numpy()[:, None] - t) / scale)
    expected = level + C @ np.linalg.solve(V, past["y"].to_numpy() - level)
    np.testing.assert_allclose(found["fit"], expected, atol=1e-8)
    spread = np.sqrt(sd**2 + sigma**2 - np.einsum("ij,ji->i", C, np.linalg.solve(V, C.T)))
    assert (found["se"] > spread).all()
    np.testing.assert_allclose(found["se"], spread, rtol=0.05)


@pytest.mark.parametrize("case", ["slope and ou", "diffuse rw"])
def test_imputations_are_draws_of_the_conditional_normal(case: str) -> None:
    frame = data(30, seed=4)
    fit = dgmm.mixed_model(FORMULAS[case], frame, se=None, verbose=0)
    gone = frame["y"].isna().to_numpy()
    draws = np.stack([one["y"].to_numpy() for one in fit.impute(m=200, seed=2, data=frame)])
    moments = fit.predict(frame, interval=None)["fit"].to_numpy()[gone]
    spread = draws[:, gone].std(0)
    assert np.isfinite(draws).all()
    assert (spread > 0.9 * fit.sigma()).all()
    assert np.abs((draws[:, gone].mean(0) - moments) / spread * np.sqrt(200)).max() < 4.5


def test_simulated_walks_have_the_variance_of_a_walk() -> None:
    frame = pd.DataFrame(
        {"id": np.repeat(np.arange(40), 5), "time": np.tile([0.0, 1, 3, 4, 9], 40)}
    )
    rng = np.random.default_rng(3)
    steps = np.sqrt([0, 1, 2, 1, 5])
    y = np.cumsum(rng.normal(size=(40, 5)) * steps, axis=1) + 0.3 * rng.normal(size=(40, 5))
    fit = dgmm.mixed_model("y ~ 1 + (rw(time) | id)", frame.assign(y=y.ravel()), verbose=0)
    sd, sigma = fit.var_corr()["sdcor"]
    made_of = fit.simulate(2000, seed=3).to_numpy()[:5]
    t = frame["time"].to_numpy()[:5]
    V = sd**2 * np.minimum(t[:, None], t) + sigma**2 * np.eye(5)
    error = np.sqrt((V**2 + np.outer(np.diag(V), np.diag(V))) / 2000)
    assert (np.abs(np.cov(made_of) - V) < 4.5 * error).all()
    assert stats.kstest((made_of[4] - fit.fixef().iloc[0]) / np.sqrt(V[4, 4]), "norm").pvalue > 1e-3


def test_a_saved_fit_predicts_what_it_did(tmp_path: object) -> None:
    frame = data(30, seed=4)
    for case in ("llt", "diffuse rw"):
        fit = dgmm.mixed_model(FORMULAS[case], frame, verbose=0)
        fit.save(tmp_path / f"{case}.dgmm")
        back = dgmm.load(tmp_path / f"{case}.dgmm")
        assert back.loglik().value == fit.loglik().value
        new = frame.assign(time=frame["time"] + 1.0)
        pd.testing.assert_frame_equal(back.predict(new), fit.predict(new))
        assert str(back.summary()) == str(fit.summary())


def test_a_walk_is_tested_as_a_variance_is() -> None:
    frame = data(40, seed=4)
    small = dgmm.mixed_model("y ~ time + w + (1 | id)", frame, verbose=0)
    big = dgmm.mixed_model("y ~ time + w + (1 | id) + (rw(time) | id)", frame, verbose=0)
    table = small.anova(big).table
    assert table["null"].iloc[1] == "0.5 chi2(0) + 0.5 chi2(1)"
    gain = 2 * (big.loglik().value - small.loglik().value)
    assert table["Pr(>Chisq)"].iloc[1] == pytest.approx(0.5 * stats.chi2.sf(gain, 1), rel=1e-6)
    diffuse = dgmm.mixed_model(FORMULAS["slope and diffuse rw"], frame, verbose=0)
    plain = dgmm.mixed_model("y ~ 0 + w + (0 + time | id)", frame, verbose=0)
    with pytest.raises(ValueError, match="has a diffuse start"):
        plain.anova(diffuse)


# -- words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("y ~ 1 + (rw(time, start='diffuse') | id)", "takes up the level .* `\\(Intercept\\)`"),
        ("y ~ 0 + s + (rw(time, start='diffuse') | id)", "with it `s` of the fixed part"),
        ("y ~ 0 + time + (llt(time, start='diffuse') | id)", "with it `time`"),
        (
            "y ~ 0 + w + (1 | id) + (rw(time, start='diffuse') | id)",
            "both hold the effect `\\(Intercept\\)` of `id`",
        ),
        ("y ~ w + (rw(time, start='stationary') | id)", "start= is 'known' or 'diffuse'"),
        ("y ~ w + (ou(time, start='known') | id)", "no option start="),
    ],
)
def test_what_a_diffuse_start_takes_up_is_named(formula: str, said: str) -> None:
    frame = data().assign(s=lambda d: 0.1 * d["id"] - 1)
    with pytest.raises(ValueError, match=said):
        dgmm.mixed_model(formula, frame, verbose=0)


def test_times_before_a_known_start_are_refused() -> None:
    fit = dgmm.mixed_model(FORMULAS["rw"], data(20), verbose=0)
    early = pd.DataFrame({"id": [1], "time": [-1.0], "w": [0.0]})
    with pytest.raises(ValueError, match="begins at time .*, the first time of the fit, and -1"):
        fit.predict(early)


def test_the_word_filter_is_for_models_with_a_path() -> None:
    frame = data()
    with pytest.raises(ValueError, match="models with a path"):
        dgmm.mixed_model("y ~ w + (1 | id)", frame, likelihood="filter", verbose=0)
    model, panel = build(FORMULAS["ou"], frame)
    assert choose(model, panel, "auto", Integration()).word == "filter"


# -- rows of every kind ----------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["intercept and ou", "llt", "diffuse rw", "slope and ar1"])
def test_the_order_of_the_rows_does_not_matter(case: str) -> None:
    frame = data(20)
    sorted_ = dgmm.mixed_model(FORMULAS[case], frame.sort_values(["id", "time"]), verbose=0)
    mixed = dgmm.mixed_model(FORMULAS[case], frame, verbose=0)
    assert mixed.loglik().value == pytest.approx(sorted_.loglik().value, abs=1e-9)
    np.testing.assert_allclose(
        mixed.fitted().sort_index(), sorted_.fitted().sort_index(), atol=1e-8
    )


@pytest.mark.parametrize("case", ["ou", "slope and rw", "llt", "diffuse rw", "diffuse llt"])
def test_rows_at_one_time_see_one_state(case: str) -> None:
    frame = data().assign(time=lambda d: d["time"].round(0))  # several rows at many times
    model, panel = build(FORMULAS[case], frame, unit=0.7)
    theta = random_theta(model, 3)
    expected = dense(model, theta, panel.observed_rows())
    assert torch.allclose(by(model, panel).each(theta).value, expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("case", ["ou", "slope and rw", "llt", "diffuse rw"])
def test_subjects_with_one_visit_or_none_that_was_seen(case: str) -> None:
    frame = data()
    frame.loc[frame["id"].isin([2, 5]), "y"] = np.nan  # nothing seen
    frame = frame[~((frame["id"] == 3) & frame["time"].duplicated())]
    one = frame[(frame["id"] != 4) | (frame.groupby("id").cumcount() == 0)]
    model, panel = build(FORMULAS[case], one, unit=0.7)
    theta, seen = random_theta(model, 3), panel.observed_rows()
    found = by(model, panel)
    some = torch.nonzero(seen.count)[:, 0]
    expected = dense(model, theta, seen.select(some))
    value = found.each(theta).value
    assert torch.allclose(value[some], expected, atol=1e-9, rtol=0)
    assert int((value == 0).sum()) == int((seen.count == 0).sum()) == 2
    scores = found.scores(theta)
    assert float(scores[seen.count == 0].abs().max()) == 0
    gradient = model.packing.pack(found.value_and_gradient(theta)[1])
    assert torch.allclose(scores.sum(0), gradient, atol=1e-8)


def test_a_subject_whose_start_its_outcomes_do_not_tell_adds_no_slope() -> None:
    """One outcome under a diffuse trend: its density is flat in everything."""
    frame = data().dropna()
    one = frame[(frame["id"] != 4) | (frame.groupby("id").cumcount() == 1)]
    model, panel = build(FORMULAS["diffuse llt"], one, unit=0.7)
    theta = random_theta(model, 3)
    found = by(model, panel)
    (alone,) = torch.nonzero(panel.observed_rows().count == 1)[:, 0].tolist()
    assert float(found.scores(theta)[alone].abs().max()) < 1e-10
    rows = replace(panel.masked_rows(), masked=False)
    eta = found.on(panel.masked_rows()).posterior(theta).predictive(rows, "link")
    unknown = panel.subject == alone
    assert bool(eta.mean[unknown].isnan().all())
    assert bool(eta.mean[~unknown].isfinite().all())


@pytest.mark.parametrize("case", ["intercept and ou", "rw", "ou and rw", "diffuse rw"])
def test_steps_of_a_millionth_and_of_a_million(case: str) -> None:
    frame = data()
    steps = np.array([0.0, 1e-6, 1e-6, 1.0, 1e6, 1e-6, 1e6, 2.0])
    frame = frame.sort_values(["id", "visit"])
    frame["time"] = frame.groupby("id").cumcount().map(dict(enumerate(np.cumsum(steps))))
    model, panel = build(FORMULAS[case], frame, unit=0.7)
    theta = random_theta(model, 3)
    for name in ("log_range", "log_sd"):  # of the order of one in units of the data
        theta |= {key: theta[key] - 12.0 for key in theta if key.endswith(name)}
    expected = dense(model, theta, panel.observed_rows())
    found = by(model, panel)
    assert torch.allclose(found.each(theta).value, expected, atol=1e-6, rtol=1e-9)
    gradient = found.value_and_gradient(theta)[1]
    assert all(bool(value.isfinite().all()) for value in gradient.values())
    fit = dgmm.mixed_model(FORMULAS[case], frame, verbose=0)
    assert math.isfinite(fit.loglik().value)
    assert np.isfinite(fit.fitted()).all()


def test_an_outcome_that_was_never_seen_is_refused() -> None:
    with pytest.raises(ValueError, match="`y`"):
        dgmm.mixed_model(FORMULAS["ou"], data().assign(y=np.nan), verbose=0)


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("id", ["ou_intercept", "ou", "ar1_intercept"])
def test_both_likelihoods_reach_the_maxima_of_r(id: str, reml: bool) -> None:
    folder = Path(__file__).parent / "reference"
    refs = json.loads((folder / "serial.json").read_text())["refs"]
    (ref,) = [one for one in refs if one["id"] == (f"{id}_reml" if reml else id)]
    frame = pd.read_csv(folder / ("ar1.csv" if "ar1" in id else "visits.csv"))
    method = "reml" if reml else "ml"
    fit = dgmm.mixed_model(ref["formula"], frame, method=method, verbose=0)
    assert fit.loglik().value == pytest.approx(ref["log_likelihood"], abs=1e-6)
    np.testing.assert_allclose(fit.fixef(), ref["fixef"], atol=1e-5)
    np.testing.assert_allclose(fit.var_corr()["sdcor"], [*ref["parameters"].values()], rtol=1e-4)


def test_one_long_gap_leaves_the_range_of_a_path_inside_its_range() -> None:
    """A gap of a million between visits a unit apart: the two halves are independent series."""
    rng = np.random.default_rng(3)
    near = np.tile(np.arange(1.0, 9.0), (40, 1)) + rng.uniform(-0.3, 0.3, (40, 8))
    r = np.exp(-np.diff(near) / 2.0)
    y = rng.normal(size=near.shape)
    for j in range(1, 8):
        y[:, j] = r[:, j - 1] * y[:, j - 1] + np.sqrt(1 - r[:, j - 1] ** 2) * y[:, j]
    y += 0.5 * rng.normal(size=y.shape)
    frame = pd.DataFrame({"id": np.repeat(np.arange(40), 8), "t": near.ravel(), "y": y.ravel()})
    halves = frame.assign(id=2 * frame["id"] + (np.arange(320) % 8 > 3))
    apart = frame.assign(t=frame["t"] + 1e6 * (np.arange(320) % 8 > 3))
    own, known = (dgmm.mixed_model("y ~ 1 + (ou(t) | id)", d, verbose=0) for d in (apart, halves))
    assert float(own.loglik()) == pytest.approx(float(known.loglik()), abs=1e-6)
    assert not own.messages
    np.testing.assert_allclose(own.std_errors(), known.std_errors(), rtol=1e-4)


def test_residuals_that_run_to_zero_at_a_known_start_are_said_in_words() -> None:
    rng = np.random.default_rng(1)
    moved = np.cumsum(rng.normal(size=(20, 6)) * 0.5, axis=1)
    z = moved - moved[:, :1]  # every outcome at time 0 is the fixed part exactly
    data = pd.DataFrame(
        {"id": np.repeat(np.arange(20), 6), "t": np.tile(np.arange(6.0), 20), "y": 1 + z.ravel()}
    )
    known = dgmm.mixed_model("y ~ 1 + (rw(t) | id)", data)
    assert known.sigma() < 1e-5
    words = " ".join(str(known.summary()).split())
    assert "the likelihood has no bound: `rw(t)` starts at a known value" in words
    free = dgmm.mixed_model("y ~ 1 + (ou(t) | id)", data)
    assert "no bound" not in " ".join(str(free.summary()).split())
