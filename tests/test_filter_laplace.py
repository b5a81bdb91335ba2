"""Paths under outcomes of any family: Laplace by the filter against its dense twin and glmmTMB."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from toys import build, generator, ou_frame, random_theta

import dgmm
from dgmm.likelihood import Integration, choose
from dgmm.likelihood.filter_laplace import FilterLaplace
from dgmm.likelihood.filter_sampled import FilterSampled
from dgmm.likelihood.numerical import LinearGaussian, NodeLaplace, Sampled
from dgmm.likelihood.state_importance import surplus
from dgmm.likelihood.state_laplace import StateLaplace
from dgmm.likelihood.states import StatePosterior, pseudo_outcomes
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta

REFERENCE = Path(__file__).parent / "reference"
CASES = {
    "ou": ("count ~ w + (ou(time) | id)", "poisson"),
    "intercept and ou": ("count ~ w + time + (1 | id) + (ou(time) | id)", "poisson"),
    "slope and rw": ("yes ~ w + (time | id) + (rw(time) | id)", "bernoulli"),
    "llt": ("count ~ w + (1 | id) + (llt(time) | id)", "poisson"),
    "ou and ar1": ("count ~ w + (ou(visit) | id) + (ar1(visit) | id)", "poisson"),
}
OTHERS = {
    "negative binomial": ("count ~ w + (1 | id) + (ou(time) | id)", "negative_binomial"),
    "student": ("y ~ w + (ou(time) | id)", "student_t"),
    "gamma": ("positive ~ w + (1 | id) + (rw(time) | id)", "gamma"),
}


def data(n: int = 9, seed: int = 0) -> pd.DataFrame:
    """3 to 8 irregular visits, every fifth outcome missing."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(n):
        J = int(rng.integers(3, 9))
        times = np.sort(rng.uniform(0, 6, J)).round(3)
        visit = np.sort(rng.choice(np.arange(1, 15), J, replace=False))
        level = 0.7 * rng.normal() + 0.4 * np.cumsum(rng.normal(size=J))
        one = {"id": i, "time": times, "visit": visit, "w": rng.normal(size=J)}
        outcomes = {
            "count": rng.poisson(np.exp(0.6 + level)).astype(float),
            "yes": (level + rng.logistic(size=J) > 0).astype(float),
            "y": level + rng.normal(size=J),
            "positive": rng.gamma(2.0, np.exp(level) / 2),
        }
        rows.append(pd.DataFrame({**one, **outcomes}))
    frame = pd.concat(rows, ignore_index=True)
    frame.loc[::5, ["count", "yes", "y", "positive"]] = np.nan
    return frame


def made(case: str, n: int = 9) -> tuple[Model, Panel, Theta]:
    formula, family = {**CASES, **OTHERS}[case]
    model, panel = build(formula, data(n), family)
    return model, panel, random_theta(model, 3)


def by(kind: type, model: Model, panel: Panel, **options: int) -> FilterLaplace:
    return kind.of(model, panel, Integration(**options))


# -- Laplace ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_the_approximation_is_that_of_the_dense_mode(case: str) -> None:
    """Canonical links, whose expected and observed curvatures are the same."""
    model, panel, theta = made(case)
    found, dense = by(FilterLaplace, model, panel), by(NodeLaplace, model, panel)
    value, expected = found.each(theta).value, dense.each(theta).value
    assert torch.allclose(value, expected, atol=1e-9, rtol=0)
    assert found.value(theta) == pytest.approx(float(expected.sum()), abs=1e-9)


def test_of_a_gaussian_outcome_it_is_the_likelihood_and_every_draw_weighs_the_same() -> None:
    model, panel = build("y ~ w + (1 | id) + (ou(time) | id)", data())
    theta = random_theta(model, 3)
    exact = by(LinearGaussian, model, panel).value(theta)
    found = by(FilterLaplace, model, panel)
    assert found.value(theta) == pytest.approx(exact, abs=1e-9)
    sampled = by(FilterSampled, model, panel, draws=8, replicates=3).each(theta)
    assert float(sampled.value.sum()) == pytest.approx(exact, abs=1e-9)
    assert float(sampled.error.max()) < 1e-12


@pytest.mark.parametrize("case", [*CASES, *OTHERS])
def test_gradient_and_scores_are_those_of_central_differences(case: str) -> None:
    model, panel, theta = made(case)
    engine = StateLaplace(model, panel.observed_rows())
    x = model.packing.pack(theta).numpy()
    found = engine.value_and_gradient(x, scores=True)
    assert found.value == pytest.approx(float(engine.each(x).sum()), abs=1e-10)
    for k, h in enumerate(1e-4 * np.maximum(1, np.abs(x))):
        unit = np.zeros_like(x)
        unit[k] = h
        near, far = (engine.each(x + m * unit) - engine.each(x - m * unit) for m in (1, 2))
        expected = (8 * near - far) / (12 * h)
        np.testing.assert_allclose(found.scores[:, k], expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.gradient, found.scores.sum(0), atol=1e-10)


def test_a_dispersion_of_the_formula_moves_with_it() -> None:
    formula = "count ~ w + (1 | id) + (ou(time) | id)"
    model, panel = build(formula, data(), "negative_binomial", parts={"dispersion": "~ w"})
    engine = StateLaplace(model, panel.observed_rows())
    x = model.packing.pack(random_theta(model, 3)).numpy()
    gradient = engine.value_and_gradient(x).gradient
    for k in range(len(x) - 2, len(x)):
        unit = np.zeros_like(x)
        unit[k] = 1e-5
        change = float((engine.each(x + unit) - engine.each(x - unit)).sum())
        assert gradient[k] == pytest.approx(change / 2e-5, rel=1e-6, abs=1e-7)


def test_the_search_for_modes_finds_them_from_far_away() -> None:
    """Modes followed from another theta are those of a search from zero."""
    model, panel, theta = made("llt")
    engine = StateLaplace(model, panel.observed_rows())
    x = model.packing.pack(theta).numpy()
    engine.value_and_gradient(x + 1.5)
    engine.keep()
    followed = engine.mode(x)[0].u
    fresh = StateLaplace(model, panel.observed_rows()).mode(x)[0].u
    np.testing.assert_allclose(followed, fresh, atol=1e-8)


@pytest.mark.parametrize("case", CASES)
def test_the_posterior_is_the_normal_one_at_the_dense_mode(case: str) -> None:
    model, panel, theta = made(case)
    seen = panel.observed_rows()
    both, _ = seen.joined(panel, seen.rows.data)
    rows = replace(both, masked=False)
    found = by(FilterLaplace, model, panel).on(both).posterior(theta)
    dense = by(NodeLaplace, model, panel).on(both).posterior(theta)
    for scale in ("link", "response"):
        one, two = found.predictive(rows, scale), dense.predictive(rows, scale)
        assert torch.allclose(one.mean, two.mean, atol=1e-6)
        assert torch.allclose(one.variance, two.variance, atol=1e-6)
    assert torch.allclose(found.effects().mean[0], dense.effects().mean[0], atol=1e-7)
    eta = found.predictive(rows, "link")
    draws = found.draws(rows, 3000, generator(1))
    error = (eta.variance / 3000).sqrt() + 1e-9
    assert ((draws.mean(0) - eta.mean).abs() < 5 * error).all()


@pytest.mark.parametrize("case", ["ou", "slope and rw", "negative binomial"])
def test_predictions_are_around_the_mean_of_a_skew_posterior(case: str) -> None:
    """By 20,000 weighted draws; the mode is two and a half times as far from it, or more."""
    model, panel, theta = made(case)
    seen = panel.observed_rows()
    found = by(FilterLaplace, model, seen).posterior(theta)
    nodes = by(FilterSampled, model, seen, draws=20_000).posterior(theta)
    mean = nodes.predictive(seen, "link").mean
    centre = found.predictive(seen, "link").mean
    pseudo = pseudo_outcomes(model, theta, seen)
    around = StatePosterior(model, theta, seen, pseudo._replace(skew=np.zeros_like(pseudo.e)))
    mode = around.predictive(seen, "link").mean
    assert float((mean - mode).abs().max()) > 0.05
    assert float((mean - centre).norm()) < 0.4 * float((mean - mode).norm())


# -- importance sampling ---------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["ou", "slope and rw", "negative binomial"])
def test_draws_of_the_smoother_agree_with_long_runs_of_their_own_and_of_another_proposal(
    case: str,
) -> None:
    model, panel, theta = made(case)
    engine = StateLaplace(model, panel.observed_rows())
    mode = engine.proposal(model.packing.pack(theta).numpy())
    short, long = (
        surplus(engine.rows, mode, theta, pairs, np.random.default_rng(pairs))
        for pairs in (200, 5000)
    )
    error = np.sqrt(short.error**2 + long.error**2)
    assert (np.abs(short.value - long.value) < 4 * error + 1e-12).all()
    assert (long.error < short.error + 1e-12).all()
    other = by(Sampled, model, panel, draws=4096).each(theta)
    by_series = other.value.numpy()[engine.rows.packed.order[: len(long.value)]]
    of_other = other.error.numpy()[engine.rows.packed.order[: len(long.value)]]
    both = np.sqrt(long.error**2 + of_other**2)
    assert (np.abs(long.value - by_series) < 5 * both + 1e-10).all()


def test_the_error_that_is_told_is_the_spread_over_seeds() -> None:
    model, panel, theta = made("ou")
    engine = StateLaplace(model, panel.observed_rows())
    mode = engine.proposal(model.packing.pack(theta).numpy())
    runs = [surplus(engine.rows, mode, theta, 300, np.random.default_rng(s)) for s in range(80)]
    spread = np.std([run.value.sum() for run in runs], ddof=1)
    told = np.sqrt(np.mean([(run.error**2).sum() for run in runs]))
    assert spread == pytest.approx(told, rel=0.4)


# -- fits ------------------------------------------------------------------------------------------


@cache
def serial() -> dict[str, dict[str, object]]:
    refs = json.loads((REFERENCE / "serial.json").read_text())["refs"]
    return {ref["id"]: ref for ref in refs}


def test_counts_agree_with_glmmtmb() -> None:
    ref, frame = serial()["poisson_ou_intercept"], pd.read_csv(REFERENCE / "counts.csv")
    formula = "count ~ x + (1 | id) + (ou(time) | id)"
    fit = dgmm.mixed_model(formula, frame, family="poisson", verbose=0)
    assert fit.loglik().value == pytest.approx(ref["log_likelihood"], abs=1e-6)
    np.testing.assert_allclose(fit.fixef(), ref["fixef"], atol=1e-5)
    np.testing.assert_allclose(fit.std_errors(), ref["se_full"], rtol=1e-4)
    np.testing.assert_allclose(fit.var_corr()["sdcor"], [*ref["parameters"].values()], rtol=1e-4)
    told = " ".join(str(fit.summary()).split())
    assert "Laplace approximation (Kalman filter)" in told
    assert "importance sampling with the smoother as proposal" in told
    assert "Monte Carlo s.e." in told


def test_a_path_alone_agrees_with_glmmtmb() -> None:
    from conftest import reference

    ref = reference("ou", "poisson_ou")
    fit = dgmm.mixed_model("count ~ x + (ou(time) | id)", ou_frame(), family="poisson", verbose=0)
    assert fit.loglik().value == pytest.approx(ref["log_likelihood"], abs=1e-6)
    np.testing.assert_allclose(fit.fixef(), ref["fixef"], atol=1e-5)


def test_the_maximum_of_the_likelihood_itself_lies_above_that_of_laplace() -> None:
    frame = data(40, seed=2)
    formula, family = CASES["ou"]
    fit = dgmm.mixed_model(formula, frame, family=family, likelihood="importance", verbose=0)
    near = dgmm.mixed_model(formula, frame, family=family, verbose=0)
    error = fit.loglik().mc_error
    assert 0 < error < 0.2
    at_laplace = fit.estimate.likelihood.value(near.estimate.theta)
    assert fit.loglik().value > at_laplace - 2 * error
    packing, other = fit.estimate.model.packing, near.estimate.theta
    moved = packing.pack(fit.estimate.theta) - packing.pack(other)
    assert 1e-4 < float(moved.abs().max()) < 0.5
    assert "Monte Carlo: standard error" in str(fit.summary())
    np.testing.assert_allclose(fit.std_errors(), near.std_errors(), rtol=0.2)


def test_missing_counts_are_forecast_and_imputed() -> None:
    frame = data(40, seed=2)
    fit = dgmm.mixed_model(CASES["ou"][0], frame, family="poisson", verbose=0)
    gone = frame["count"].isna().to_numpy()
    draws = [one["count"].to_numpy() for one in fit.impute(m=60, seed=2, data=frame)]
    mean = np.mean(draws, axis=0)[gone]
    expected = fit.predict(frame, interval=None)["fit"].to_numpy()[gone]
    spread = np.std(draws, axis=0)[gone] + 0.3
    assert np.abs((mean - expected) / spread * np.sqrt(60)).max() < 6
    frame = pd.read_csv(REFERENCE / "counts.csv")
    fit = dgmm.mixed_model("count ~ x + (ou(time) | id)", frame, family="poisson", verbose=0)
    ahead = frame.groupby("id").tail(1).assign(time=1e6)
    far = fit.predict(ahead, history=frame, interval=None)["fit"]
    beta, sd = fit.fixef(), fit.var_corr()["sdcor"].iloc[0]
    own = np.exp(beta["(Intercept)"] + beta["x"] * ahead["x"] + sd**2 / 2)
    np.testing.assert_allclose(far, own, rtol=1e-6)


def test_a_diffuse_start_is_for_gaussian_outcomes() -> None:
    with pytest.raises(ValueError, match="diffuse start, .* for Gaussian outcomes"):
        dgmm.mixed_model(
            "count ~ 0 + w + (rw(time, start='diffuse') | id)",
            data(),
            family="poisson",
            likelihood="laplace",
            verbose=0,
        )
    model, panel = build("count ~ w + (ou(time) | id)", data(), "poisson")
    assert isinstance(choose(model, panel), FilterLaplace)
