"""Outcomes without noise about their path: nlme's corCAR1, dense normal densities, kriging."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import reference
from scipy.stats import multivariate_normal
from toys import ar1_frame, build, random_theta, visits_frame

import dgmm
from dgmm.likelihood import choose
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta

FORMULA = "y ~ time + x + (1 | id) + (ou(time) | id)"


@pytest.fixture(scope="module")
def fit() -> dgmm.Fit:
    return dgmm.mixed_model(FORMULA, visits_frame(), dispersion="~ 0", verbose=0)


def noiseless(formula: str, frame: pd.DataFrame, unit: float = 0.8) -> tuple[Model, Panel]:
    model, panel = build(formula, frame, unit=unit)
    return model.with_outcome(family=model.family.without_noise()), panel


def dense(model: Model, theta: Theta, panel: Panel, i: int) -> tuple[np.ndarray, np.ndarray]:
    """y - X beta and Z Z' of a subject, seen rows alone."""
    block = panel.observed_rows().block(torch.tensor([i]))
    J = model.jacobian(theta, torch.zeros(1, model.k, dtype=torch.float64), block.rows)[0]
    left = (block.rows.data.y - model.mu1(theta, block.rows))[0].numpy()
    return left, (J @ J.T).numpy()


@pytest.mark.parametrize(
    ("formula", "frame"),
    [
        (FORMULA, visits_frame),
        ("y ~ x + (ar1(visit) | id)", ar1_frame),
        ("y ~ x + (1 + x | id) + (ssm(visit, state=2) | id)", ar1_frame),
        ("y ~ x + (ou(time) | id) + (llt(time) | id)", visits_frame),
    ],
)
def test_the_likelihood_is_the_dense_normal_density(
    formula: str, frame: Callable[[], pd.DataFrame]
) -> None:
    model, panel = noiseless(formula, frame().iloc[:60])
    theta = random_theta(model, 3)
    found = choose(model, panel)
    each = [
        multivariate_normal(np.zeros(len(e)), V).logpdf(e)
        for e, V in (dense(model, theta, panel, i) for i in range(panel.n))
    ]
    np.testing.assert_allclose(found.each(theta).value, each, atol=1e-9)
    value, gradient = found.value_and_gradient(theta)
    assert value == pytest.approx(sum(each), abs=1e-8)
    scores = found.scores(theta)
    packing = model.packing
    np.testing.assert_allclose(scores.sum(0), packing.pack(gradient), atol=1e-8)
    x = packing.pack(theta)
    for j, unit in enumerate(1e-5 * torch.eye(len(x), dtype=torch.float64)):
        ends = (found.value(packing.unpack(x + s * unit)) for s in (1, -1))
        slope = (next(ends) - next(ends)) / 2e-5
        assert slope == pytest.approx(float(scores[:, j].sum()), rel=1e-6)


def named(entry: str, method: str) -> str:
    return entry + "_reml" * (method == "reml")


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_mares_have_the_maximum_of_lme_with_corcar1(method: str) -> None:
    ovary = dgmm.datasets.load("ovary")
    ovary["wave"], ovary["rise"] = (f(2 * np.pi * ovary["Time"]) for f in (np.sin, np.cos))
    formula = "follicles ~ wave + rise + (1 | Mare) + (ou(Time) | Mare)"
    fit = dgmm.mixed_model(formula, ovary, dispersion="~ 0", method=method, verbose=0)
    entry = reference("noiseless", named("ovary_corCAR1", method))
    assert float(fit.loglik().value) == pytest.approx(entry["log_likelihood"], abs=1e-6)
    assert fit.fixef().tolist() == pytest.approx(entry["fixef"], abs=1e-4)
    intercept, path, length = fit.var_corr()["sdcor"]
    assert (intercept, path) == pytest.approx((entry["sd_intercept"], entry["sigma"]), rel=1e-3)
    assert math.exp(-1 / length) == pytest.approx(entry["phi"], rel=1e-2)


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_an_intercept_and_a_path_have_the_maximum_of_lme_with_corcar1(method: str) -> None:
    entry = reference("serial", named("car1_intercept", method))
    peer = entry["others"]["lme_corCAR1"]
    fit = dgmm.mixed_model(FORMULA, visits_frame(), dispersion="~ 0", method=method, verbose=0)
    assert fit.estimate.converged
    assert float(fit.loglik().value) == pytest.approx(peer["log_likelihood"], abs=1e-6)
    assert float(fit.loglik().value) == pytest.approx(entry["log_likelihood"], abs=1e-8)
    assert fit.fixef().tolist() == pytest.approx(peer["fixef"], abs=1e-6)
    assert fit.std_errors(kind="gls").tolist() == pytest.approx(peer["se"], rel=1e-5)
    table = fit.var_corr()
    intercept, path, length = table["sdcor"]
    assert math.exp(-1 / length) == pytest.approx(peer["phi"], rel=1e-5)
    assert (intercept, path) == pytest.approx((peer["sd_intercept"], peer["sd_path"]), rel=1e-6)
    errors = list(entry["se_working"].values())
    assert table["se_working"].tolist() == pytest.approx(errors, rel=1e-4)


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_a_path_alone_is_the_residual_of_gls_with_corar1(method: str) -> None:
    formula, entry = (
        "y ~ x + (ar1(visit) | id)",
        reference("noiseless", named("gls_corAR1", method)),
    )
    fit = dgmm.mixed_model(formula, ar1_frame(), dispersion="~ 0", method=method, verbose=0)
    assert float(fit.loglik().value) == pytest.approx(entry["log_likelihood"], abs=1e-6)
    assert fit.fixef().tolist() == pytest.approx(entry["fixef"], abs=1e-5)
    sd, rho = fit.var_corr()["sdcor"]
    assert (sd, rho) == pytest.approx((entry["sigma"], entry["phi"]), rel=1e-4)


def test_predictions_pass_through_the_outcomes_and_are_those_of_dense_conditioning(
    fit: dgmm.Fit,
) -> None:
    frame = visits_frame()
    here = fit.predict(frame, interval="confidence")
    np.testing.assert_allclose(here["fit"], frame["y"], atol=1e-10)
    assert here["se"].max() < 1e-6
    own = frame[frame["id"] == frame["id"].iloc[0]]
    new = own.iloc[[0]].assign(time=own["time"].iloc[0] + 0.4)
    found = fit.predict(new, interval="prediction")
    sd, path, length = fit.var_corr()["sdcor"]
    time = np.append(own["time"], new["time"])
    V = sd**2 + path**2 * np.exp(-np.abs(np.subtract.outer(time, time)) / length)
    mean = fit.predict(pd.concat([own, new]), type="mean_subject")["fit"].to_numpy()
    along = np.linalg.solve(V[:-1, :-1], V[:-1, -1])
    assert found["fit"].iloc[0] == pytest.approx(
        mean[-1] + along @ (own["y"] - mean[:-1]), abs=1e-8
    )
    # the mean moves with theta as well, which adds to what the path leaves open
    assert found["se"].iloc[0] > math.sqrt(V[-1, -1] - V[-1, :-1] @ along)
    assert found["se"].iloc[0] < 1.1 * math.sqrt(V[-1, -1] - V[-1, :-1] @ along)
    history = fit.predict(new.assign(id="new"), history=own.assign(id="new"))["fit"].iloc[0]
    assert history == pytest.approx(found["fit"].iloc[0], abs=1e-10)


def test_random_effects_are_those_of_dense_conditioning(fit: dgmm.Fit) -> None:
    done = fit.estimate
    found = done.likelihood.on(done.panel).posterior(done.theta).effects()
    block = done.panel.block(torch.tensor([0]))
    model = done.model.sized(done.panel)
    J = model.jacobian(done.theta, torch.zeros(1, model.k, dtype=torch.float64), block.rows)[0]
    e, V = dense(model, done.theta, done.panel, 0)
    gain = np.linalg.solve(V, J.numpy()).T
    np.testing.assert_allclose(found.mean[0][0], gain @ e, atol=1e-9)
    np.testing.assert_allclose(
        found.covariance[0][0], np.eye(model.k) - gain @ J.numpy(), atol=1e-9
    )


def test_noise_that_is_not_there_is_found_to_be_zero() -> None:
    """The model with noise comes down to the one without where the data have none."""
    frame, rng = visits_frame(), np.random.default_rng(3)
    for _, own in frame.groupby("id"):
        lag = np.abs(np.subtract.outer(own["time"].to_numpy(), own["time"].to_numpy()))
        z = np.linalg.cholesky(np.exp(-lag / 4)) @ rng.standard_normal(len(own))
        frame.loc[own.index, "y"] = 1 + 0.3 * own["x"] + z
    formula = "y ~ time + x + (ou(time) | id)"
    small = dgmm.mixed_model(formula, frame, dispersion="~ 0", verbose=0)
    big = dgmm.mixed_model(formula, frame, verbose=0)
    assert float(big.loglik().value) == pytest.approx(float(small.loglik().value), abs=1e-3)
    assert big.sigma() < 0.05
    table = small.anova(big).table
    assert table["Df"].iloc[1] == 1
    assert table["null"].iloc[1] == "0.5 chi2(0) + 0.5 chi2(1)"


def test_what_is_said_of_a_fit_without_noise(fit: dgmm.Fit, tmp_path: Path) -> None:
    text = str(fit.summary())
    assert "Family: gaussian (identity), no noise: outcomes lie on the path" in text
    assert "Residual" not in text
    assert fit.sigma() == 0.0
    assert fit.icc()["adjusted"] == pytest.approx(1.0)
    fit.save(tmp_path / "fit.dgmm")
    again = dgmm.load(tmp_path / "fit.dgmm")
    assert str(again.summary()) == text
    assert again.predict(visits_frame().head(3))["fit"].equals(
        fit.predict(visits_frame().head(3))["fit"]
    )
    dropped = fit.ranova()
    assert dropped.table.index.tolist() == ["<none>", "(Intercept) | id"]
    assert "`(ou(time) | id)` stays" in str(dropped)
    with pytest.raises(ValueError, match="divides by the SD of the noise"):
        fit.residuals("pearson")


def test_draws_of_the_outcome_have_the_variance_of_intercept_and_path(fit: dgmm.Fit) -> None:
    drawn = fit.simulate(400, seed=3).to_numpy()
    mean = fit.predict(visits_frame(), type="mean_subject")["fit"].to_numpy()
    sd, path, _ = fit.var_corr()["sdcor"]
    # 40 subjects: a mean over draws of sums of squares, of which each has about 120 df
    square = np.square(drawn - mean[:, None]).mean(0)
    error = square.std(ddof=1) / math.sqrt(400)
    assert abs(square.mean() - sd**2 - path**2) < 4 * error


def test_what_has_no_meaning_without_noise_is_refused() -> None:
    frame = visits_frame()
    wanted: dict[str, Any] = {"dispersion": "~ 0", "verbose": 0}
    with pytest.raises(ValueError, match="for family='gaussian' with link='identity'"):
        dgmm.mixed_model(FORMULA, frame.assign(y=1), family="poisson", **wanted)
    with pytest.raises(ValueError, match="has no path to vary in its place"):
        dgmm.mixed_model("y ~ x + (1 | id)", frame, **wanted)
    with pytest.raises(ValueError, match="must vary at every time"):
        dgmm.mixed_model("y ~ x + (rw(time) | id)", frame, **wanted)
    with pytest.raises(ValueError, match="subject '0' has two outcomes at time 1,"):
        dgmm.mixed_model(FORMULA, pd.concat([frame, frame.iloc[[0]]]), **wanted)
    with pytest.raises(ValueError, match="weights= divide the variance of the noise"):
        dgmm.mixed_model(FORMULA, frame, weights=np.linspace(1, 2, len(frame)), **wanted)
    with pytest.raises(ValueError, match="leaves none; use likelihood='filter'"):
        dgmm.mixed_model(FORMULA, frame, likelihood="laplace", **wanted)


def test_a_family_without_noise_is_made_again_from_its_options() -> None:
    family = dgmm.families.find("gaussian").without_noise()
    again = dgmm.families.find(family.name, **family.options())
    assert not again.noise
    assert again.extra == ()
