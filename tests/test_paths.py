"""Paths: exact for Gaussian outcomes, against a dense normal density and against R."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from toys import build, generator, random_theta

import dgmm
from dgmm.likelihood import Laplace, freeze
from dgmm.likelihood.gaussian import per_subject
from dgmm.model import Model
from dgmm.panel import LatentRows, Panel
from dgmm.parameters import Theta, part
from dgmm.posterior.modes import find_modes

REFERENCE = json.loads((Path(__file__).parent / "reference" / "paths.json").read_text())
DATA = pd.DataFrame(REFERENCE["data"])
FORMULAS = {
    "ou": "y ~ time + x + (ou(time) | id)",
    "intercept and ou": "y ~ time + x + (1 | id) + (ou(time) | id)",
    "slope and ou": "y ~ time + x + (time | id) + (ou(time) | id)",
    "ar1": "z ~ x + (ar1(visit) | id)",
    "intercept and ar1": "z ~ x + (1 | id) + (ar1(visit) | id)",
}
OU = FORMULAS["intercept and ou"]


@cache
def fitted(formula: str) -> dgmm.Fit:
    """The fit to all of the data, made once."""
    return dgmm.mixed_model(formula, DATA, verbose=0)


def gaps(n: int = 12) -> pd.DataFrame:
    """Some of the subjects, every fifth outcome missing."""
    data = DATA[DATA["id"] <= n].reset_index(drop=True)
    data.loc[::5, ["y", "z"]] = np.nan
    return data


def dense_covariance(model: Model, theta: Theta, panel: Panel, subject: int) -> Tensor:
    """var(mu2) of the rows of a subject, written out by its formula for every kind of term."""
    at = slice(int(panel.start[subject]), int(panel.start[subject] + panel.count[subject]))
    total = torch.zeros(at.stop - at.start, at.stop - at.start, dtype=torch.float64)
    for i, latent in enumerate(model.latents):
        weights, T = part(theta, f"latent{i + 1}."), panel.rows.T[i][at]
        if latent.by_columns:
            Lambda = latent.loadings(weights)
            total = total + T @ Lambda @ Lambda.T @ T.T
            continue
        distance = (T - T.T).abs()
        sd, correlation = latent.reported(weights)
        if latent.name == "ou":
            total = total + sd**2 * torch.exp(-distance / correlation)
        else:
            total = total + sd**2 * correlation.sign() ** distance * correlation.abs() ** distance
    return total


def dense_log_density(model: Model, theta: Theta, panel: Panel) -> Tensor:
    """log p(y_i) of every subject by its normal density."""
    sigma2 = torch.exp(2 * theta["extra"][0])
    residual = panel.rows.data.y - model.mu1(model.prepare(theta), panel.rows)
    values = []
    for i in range(panel.n):
        at = slice(int(panel.start[i]), int(panel.start[i] + panel.count[i]))
        V = dense_covariance(model, theta, panel, i)
        V = V + sigma2 * torch.eye(len(V), dtype=torch.float64)
        mean = torch.zeros(len(V), dtype=torch.float64)
        normal = torch.distributions.MultivariateNormal(mean, V)
        values.append(normal.log_prob(residual[at]))
    return torch.stack(values)


def made(case: str) -> tuple[Model, Panel, Theta]:
    model, panel = build(FORMULAS[case], gaps(), unit=0.7)
    theta = random_theta(model, 3)
    return model, panel.observed_rows(), theta


# -- the density -----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", FORMULAS)
def test_the_covariance_of_the_states_is_that_of_the_process(case: str) -> None:
    model, panel, theta = made(case)
    block = panel.block(torch.arange(panel.n))
    J = model.jacobian(theta, torch.zeros(panel.n, model.k, dtype=torch.float64), block.rows)
    for i in range(panel.n):
        own = (J @ J.mT)[i, : panel.count[i], : panel.count[i]]
        assert torch.allclose(own, dense_covariance(model, theta, panel, i), atol=1e-12)


@pytest.mark.parametrize("case", FORMULAS)
def test_one_node_gives_the_dense_normal_density(case: str) -> None:
    model, panel, theta = made(case)
    expected = dense_log_density(model, theta, panel)
    frozen = freeze(model, theta, panel, Laplace(), np.random.default_rng(0))
    assert torch.allclose(frozen.per_subject(theta), expected, atol=1e-8, rtol=0)
    assert torch.allclose(per_subject(model, theta, panel), expected, atol=1e-8, rtol=0)
    elsewhere = random_theta(model, 8)  # the node follows theta
    moved = dense_log_density(model, elsewhere, panel)
    assert torch.allclose(frozen.per_subject(elsewhere), moved, atol=1e-8, rtol=0)


@pytest.mark.parametrize("case", FORMULAS)
def test_gradient_and_scores_are_those_of_the_dense_density(case: str) -> None:
    model, panel, theta = made(case)
    frozen = freeze(model, random_theta(model, 5), panel, Laplace(), np.random.default_rng(0))
    packing = model.packing

    def dense(x: Tensor) -> Tensor:
        return dense_log_density(model, packing.unpack(x), panel)

    scores = torch.autograd.functional.jacobian(dense, packing.pack(theta))
    value, gradient = frozen.value_and_gradient(theta)
    assert value == pytest.approx(float(dense(packing.pack(theta)).sum()), abs=1e-8)
    assert torch.allclose(packing.pack(gradient), scores.sum(0), atol=1e-8)
    assert torch.allclose(frozen.scores(theta), scores, atol=1e-8)


@pytest.mark.parametrize("case", FORMULAS)
def test_the_posterior_is_the_conditional_normal(case: str) -> None:
    model, panel, theta = made(case)
    block = panel.block(torch.arange(panel.n))
    anchor = find_modes(model, theta, block)
    J = model.jacobian(theta, anchor.mode, block.rows)
    sigma2 = torch.exp(2 * theta["extra"][0])
    residual = panel.rows.data.y - model.mu1(theta, panel.rows)
    for i in range(panel.n):
        at = slice(int(panel.start[i]), int(panel.start[i] + panel.count[i]))
        C = dense_covariance(model, theta, panel, i)
        gain = torch.linalg.solve(C + sigma2 * torch.eye(len(C), dtype=C.dtype), C).T
        L = J[i, : len(C)]
        assert torch.allclose(L @ anchor.mode[i], gain @ residual[at], atol=1e-8)
        inner = L @ anchor.covariance[i] @ L.T
        assert torch.allclose(inner, C - gain @ C, atol=1e-8)


def test_fifty_visits_have_the_dense_normal_density() -> None:
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"id": np.repeat([1, 2], 50), "x": 0.0, "y": rng.normal(size=100)})
    data["time"] = np.sort(rng.uniform(0, 9, 100)).reshape(50, 2).T.ravel()
    model, panel = build("y ~ time + (1 | id) + (ou(time) | id)", data)
    theta = random_theta(model, 3)
    frozen = freeze(model, theta, panel, Laplace(), np.random.default_rng(0))
    expected = dense_log_density(model, theta, panel)
    assert torch.allclose(frozen.per_subject(theta), expected, atol=1e-8, rtol=0)


# -- rows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["ou", "ar1"])
def test_a_padded_row_adds_nothing_and_no_gradient_is_nan(case: str) -> None:
    model, panel, theta = made(case)
    latent, weights = model.latents[0], part(theta, "latent1.")
    weights = {name: value.requires_grad_() for name, value in weights.items()}
    block = panel.block(torch.arange(panel.n))
    short = int(panel.count.argmin())
    wide = block.rows.of_term(0)
    J = latent.jacobian(weights, torch.zeros(1), wide)
    m = int(panel.count[short])
    assert m < block.mask.shape[1]
    alone = LatentRows(*(column[short : short + 1, :m] for column in wide[:3]))
    own = latent.jacobian(weights, torch.zeros(1), alone)[0]
    assert torch.allclose(J[short, :m], own)
    assert torch.equal(J[short, m:], J[short, m - 1].expand_as(J[short, m:]))
    gradient = torch.autograd.grad(J.square().sum(), list(weights.values()))
    assert all(bool(torch.isfinite(g).all()) for g in gradient)


def test_long_paths_go_step_by_step_to_the_same_effect() -> None:
    times = np.cumsum(np.random.default_rng(0).exponential(size=150))
    data = pd.DataFrame({"id": np.repeat([1, 2], 75), "time": times, "y": np.sin(times)})
    model, panel = build("y ~ 1 + (ou(time) | id)", data)
    theta, block = random_theta(model, 2), panel.block(torch.arange(2))
    b = torch.randn(2, model.k, generator=generator(), dtype=torch.float64)
    J = model.jacobian(theta, b, block.rows)
    found = model.mu2(theta, b, block.rows)
    assert torch.allclose(found, torch.einsum("njk,nk->nj", J, b), atol=1e-12)


def test_two_rows_at_one_time_have_one_state() -> None:
    times = [0.0, 1.0, 1.0, 0.0, 3.0]
    data = pd.DataFrame({"id": [1, 1, 1, 2, 2], "time": times, "y": [1.0, 2.0, 4.0, 0.0, 1.0]})
    model, panel = build("y ~ 1 + (ou(time) | id)", data)
    theta = random_theta(model, 2)
    J = model.jacobian(theta, torch.zeros(1, model.k), panel.block(torch.arange(1)).rows)[0]
    assert torch.equal(J[1], J[2])


def test_fewer_rows_than_the_fit_use_the_first_elements_and_more_need_room() -> None:
    model, panel, theta = made("ou")
    latent, weights = model.latents[0], part(theta, "latent1.")
    rows = panel.block(torch.arange(3)).rows.of_term(0)
    b = torch.randn(3, latent.dim, generator=generator(), dtype=torch.float64)
    J = rows.T.shape[1]
    other = torch.cat([b[:, :J], torch.randn_like(b[:, J:])], dim=1)
    assert torch.equal(latent.effect(weights, b, rows), latent.effect(weights, other, rows))
    longer = LatentRows(*(torch.cat([column] * 3, dim=1) for column in rows[:3]))
    with pytest.raises(ValueError, match="rows of a subject"):
        latent.effect(weights, b, longer)
    flat = LatentRows(*(column.flatten(0, 1) for column in longer[:3]))
    assert latent.sized(flat, 3 * J).dim == 3 * J
    assert latent.sized(flat, 1).dim == latent.dim


@pytest.mark.parametrize("case", FORMULAS)
def test_masked_rows_have_states_but_no_density(case: str) -> None:
    """The density is that without them, their states are the conditional ones given the others."""
    model, panel = build(FORMULAS[case], gaps(), unit=0.7)
    theta, masked, seen = random_theta(model, 3), panel.masked_rows(), panel.observed_rows()
    frozen = freeze(model, theta, masked, Laplace(), np.random.default_rng(0))
    expected = dense_log_density(model, theta, seen)
    assert torch.allclose(frozen.per_subject(theta), expected, atol=1e-8, rtol=0)
    block = masked.block(torch.arange(panel.n))
    assert torch.equal(block.mask.sum(1), seen.count)
    anchor = find_modes(model, theta, block)
    assert bool(torch.isfinite(anchor.mode).all())
    states = model.mu2(theta, anchor.mode, block.rows)
    sigma2 = torch.exp(2 * theta["extra"][0])
    residual = panel.rows.data.y - model.mu1(theta, panel.rows)
    for i in range(panel.n):
        at = torch.arange(int(panel.start[i]), int(panel.start[i] + panel.count[i]))
        C, known = dense_covariance(model, theta, panel, i), panel.observed[at]
        V = C[known][:, known] + sigma2 * torch.eye(int(known.sum()), dtype=C.dtype)
        mean = C[:, known] @ torch.linalg.solve(V, residual[at][known])
        assert torch.allclose(states[i, : len(at)], mean, atol=1e-8)


def test_joined_panels_stand_in_the_order_of_time() -> None:
    _, panel = build(OU, gaps())
    seen, unseen = panel.observed_rows(), panel.keep(~panel.observed)
    both, place = seen.joined(unseen, seen.rows.data)
    assert torch.equal(both.rows.time, panel.rows.time)
    assert torch.equal(both.observed, panel.observed)
    assert torch.equal(torch.nonzero(~panel.observed)[:, 0], place)
    assert bool(torch.isfinite(both.rows.data.y).all())


# -- words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("term", "said"),
    [
        ("(ou() | id)", "needs the terms"),
        ("(ou(1) | id)", "one numeric variable"),
        ("(ou(time, x) | id)", "one numeric variable"),
        ("(ou(group) | id)", "one numeric variable"),
        ("(ou(-time) | id)", "one numeric variable"),
        ("(ou(exp(-time)) | id)", "must rise"),
        ("(ou(still) | id)", "one numeric variable that varies"),
        ("(ou(time, hidden=(3,)) | id)", "no option hidden="),
        ("(ou(time) | id) + (ou(x) | id)", "the same for all paths"),
        ("(ar1(time) | id)", "whole numbers, and .* is not; for times of any kind use ou"),
        ("(ar1(again) | id)", "`id` '1' has several at visit 1"),
        ("(ou(time) | id) + (1 | group)", "paths are fitted with one"),
        ("(warp(time) | id)", "no function warp"),
        ("(covariance(time) | id)", "no function covariance"),
    ],
)
def test_what_is_no_path_is_refused_in_words(term: str, said: str) -> None:
    data = DATA.assign(
        group=np.where(DATA["x"] > 0, "a", "b"),
        still=2.0,
        again=np.maximum(DATA.groupby("id").cumcount(), 1),
    )
    with pytest.raises(ValueError, match=said):
        dgmm.mixed_model(f"y ~ x + {term}", data, verbose=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"likelihood": "exact", "family": "student_t"},
            "a Gaussian outcome .*likelihood='laplace'",
        ),
        ({"likelihood": "quadrature"}, "at most 3 random .*use .*likelihood='laplace'"),
    ],
)
def test_what_a_path_cannot_is_refused_in_words(options: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        dgmm.mixed_model(OU, gaps(), verbose=0, **options)


def test_the_intercept_beside_a_path_is_a_term_of_its_own() -> None:
    one = build("y ~ x + (1 + ou(time) | id)", gaps())[0]
    two = build("y ~ x + (1 | id) + (ou(time) | id)", gaps())[0]
    assert [latent.name for latent in one.latents] == ["normal", "ou"]
    assert one.packing == two.packing


# -- fits ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=REFERENCE["refs"], ids=lambda ref: ref["id"])
def both(request: pytest.FixtureRequest) -> tuple[dgmm.Fit, dict[str, object]]:
    ref = request.param
    return dgmm.mixed_model(ref["formula"], DATA, family=ref["family"], verbose=0), ref


def test_fits_agree_with_r(both: tuple[dgmm.Fit, dict[str, float]]) -> None:
    fit, ref = both
    assert fit.estimate.converged
    assert fit.loglik().value == pytest.approx(ref["loglik"], abs=1e-6)
    if "nlme" in ref:
        assert fit.loglik().value == pytest.approx(ref["nlme"], abs=1e-6)
    error = fit.std_errors().to_numpy()
    np.testing.assert_allclose(error, ref["se"], rtol=2e-3)
    assert np.abs((fit.fixef().to_numpy() - ref["coef"]) / error).max() < 1e-3
    table = fit.var_corr()
    np.testing.assert_allclose(
        table[table["kind"] == "sd"]["sdcor"][: len(ref["sd"])], ref["sd"], rtol=1e-3
    )
    (path,) = table[table["kind"].isin(["range", "rho"])]["sdcor"]
    assert path == pytest.approx(ref["path"], rel=1e-3)


def test_the_summary_shows_the_path_beside_its_standard_deviation(
    both: tuple[dgmm.Fit, dict[str, float]],
) -> None:
    fit, ref = both
    name = "ar1(visit)" if ref["id"] == "ar1" else "ou(time)"
    lines = str(fit.summary()).splitlines()
    (line,) = (one for one in lines if name in one and "Formula" not in one)
    assert f"{'rho' if ref['id'] == 'ar1' else 'range'} {ref['path']:.3g}"[:-1] in line
    interval = fit.confint()
    row = interval.loc[f"{'rho' if ref['id'] == 'ar1' else 'range'}_{name}|id"]
    assert row.iloc[0] < ref["path"] < row.iloc[1]


def test_predictions_are_the_conditional_normal() -> None:
    """Rows of the fit with a missing outcome, and new times between and after those seen."""
    data = gaps(40)
    fit = dgmm.mixed_model(OU, data, verbose=0)
    model, theta = fit.estimate.model, fit.estimate.theta
    new = data[["id", "time", "x"]].assign(time=data["time"] + 0.37)
    predicted = fit.predict(new, scale="link", interval="confidence", type="subject")
    shown = fit.fitted()
    sigma2 = float(torch.exp(2 * theta["extra"][0]))
    sd, (path_sd, scale) = (
        float(model.latents[0].reported(part(theta, "latent1."))[0]),
        map(float, model.latents[1].reported(part(theta, "latent2."))),
    )
    beta = fit.fixef().to_numpy()

    def mean(frame: pd.DataFrame) -> np.ndarray:
        return beta[0] + beta[1] * frame["time"].to_numpy() + beta[2] * frame["x"].to_numpy()

    def covariance(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        distance = np.abs(one[:, None] - two)
        return sd**2 + path_sd**2 * np.exp(-distance / scale)

    for subject in (1, 7, 20):
        own = data[data["id"] == subject]
        seen = own[own["y"].notna()]
        t = seen["time"].to_numpy()
        V = covariance(t, t) + sigma2 * np.eye(len(t))
        weight = np.linalg.solve(V, seen["y"].to_numpy() - mean(seen))
        for frame, found in ((own, shown), (new.loc[own.index], predicted["fit"])):
            expected = mean(frame) + covariance(frame["time"].to_numpy(), t) @ weight
            np.testing.assert_allclose(found.loc[own.index], expected, atol=1e-6)


def test_new_subjects_have_the_mean_and_the_whole_variance() -> None:
    fit = dgmm.mixed_model(FORMULAS["ou"], gaps(40), verbose=0)
    new = pd.DataFrame({"id": 99, "time": np.linspace(0, 9, 15), "x": 0.0})
    b0, b1, _ = fit.fixef()
    np.testing.assert_allclose(fit.predict(new)["fit"], b0 + b1 * new["time"], atol=1e-8)
    profile = fit.random_profile([6.0, 1.0, 3.0])
    sd, scale = fit.var_corr()["sdcor"][:2]
    np.testing.assert_allclose(profile.table["sd"], sd, rtol=1e-10)
    np.testing.assert_allclose(profile.correlation.iloc[0], np.exp(-np.array([0, 5, 3]) / scale))


def test_simulated_paths_have_their_covariance() -> None:
    fit = fitted(FORMULAS["ou"])
    y = fit.simulate(1500, seed=3).to_numpy()
    own = np.flatnonzero(DATA["id"] == 5)
    t = DATA["time"].to_numpy()[own]
    sd, scale, sigma = fit.var_corr()["sdcor"]
    V = sd**2 * np.exp(-np.abs(t[:, None] - t) / scale) + sigma**2 * np.eye(len(t))
    error = np.sqrt((V**2 + np.outer(np.diag(V), np.diag(V))) / 1500)
    assert (np.abs(np.cov(y[own]) - V) < 4.5 * error).all()


def test_what_was_not_seen_is_drawn_from_its_conditional_normal() -> None:
    """Imputations at fixed parameters, and simulations of the same subjects."""
    data = gaps(40)
    fit = dgmm.mixed_model(FORMULAS["ou"], data, se=None, verbose=0)
    expected = fit.predict(interval=None)["fit"].to_numpy()
    draws = np.stack([one["y"].to_numpy() for one in fit.impute(m=60, seed=2, data=data)])
    gone = data["y"].isna().to_numpy()
    spread = draws[:, gone].std(0)
    assert (spread > fit.sigma()).all()
    assert np.abs((draws[:, gone].mean(0) - expected[gone]) / spread * np.sqrt(60)).max() < 4
    again = fit.simulate(200, seed=2, condition_on_data=True).to_numpy()
    assert np.abs(again.mean(1) - expected).max() < 5 * fit.sigma() / np.sqrt(200)


def test_a_path_is_compared_with_a_smaller_model() -> None:
    big = fitted(FORMULAS["intercept and ou"])
    path = fitted(FORMULAS["ou"])
    small = fitted("y ~ time + x + (1 | id)")
    nested = path.anova(big).table  # the variance of an intercept
    assert nested["null"].iloc[1] == "0.5 chi2(0) + 0.5 chi2(1)"
    assert "no known distribution" in str(small.anova(big))
    with pytest.raises(ValueError, match="a path of the former is absent"):
        path.anova(fitted("y ~ time + x + (time | id)"))


def test_robust_errors_and_influence_of_a_path_are_near_the_model_based_ones() -> None:
    fit = dgmm.mixed_model(FORMULAS["ou"], DATA, se="sandwich", verbose=0)
    model = fitted(FORMULAS["ou"])
    np.testing.assert_allclose(fit.std_errors(), model.std_errors(), rtol=0.35)
    assert not np.array_equal(fit.std_errors(), model.std_errors())
    steps = model.influence()["dfbetas(x)"]
    largest = steps.abs().idxmax()
    without = dgmm.mixed_model(FORMULAS["ou"], DATA[DATA["id"] != largest], verbose=0)
    moved = (model.fixef()["x"] - without.fixef()["x"]) / model.std_errors()["x"]
    assert steps[largest] == pytest.approx(moved, rel=0.1)


def test_of_an_intercept_and_a_path_that_does_its_work_one_is_at_the_boundary() -> None:
    rng = np.random.default_rng(4)
    data = DATA.assign(y=rng.normal(size=len(DATA)) + 0.7 * rng.normal(size=41)[DATA["id"]])
    fit = dgmm.mixed_model("y ~ x + (1 | id) + (ou(time) | id)", data, verbose=0)
    intercept = dgmm.mixed_model("y ~ x + (1 | id)", data, verbose=0)
    path = dgmm.mixed_model("y ~ x + (ou(time) | id)", data, verbose=0)
    assert fit.boundary() == ("(Intercept)",)
    assert fit.loglik().value == pytest.approx(path.loglik().value, abs=1e-6)
    assert fit.loglik().value > intercept.loglik().value


def test_ranova_takes_the_path_out_as_a_whole() -> None:
    fit = fitted(OU)
    table = fit.ranova().table
    plain = fitted("y ~ time + x + (1 | id)")
    alone = fitted(FORMULAS["ou"])
    assert table.loc["(ou(time) | id) | id", "logLik"] == pytest.approx(plain.loglik().value)
    assert table.loc["(ou(time) | id) | id", "npar"] == 5
    assert math.isnan(table.loc["(ou(time) | id) | id", "Pr(>Chisq)"])
    assert table.loc["(Intercept) | id", "logLik"] == pytest.approx(alone.loglik().value, abs=1e-6)
