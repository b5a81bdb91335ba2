"""Correlated random effects: the identities of panel data, the tests between its estimators."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import data, reference

import dgmm
from dgmm import Fit, mixed_model
from dgmm.inference import panel_tests
from dgmm.inference.panel_estimators import Estimators
from dgmm.inference.panel_tests import _difference
from dgmm.inference.within import Estimator

FIRMS = "inv ~ value + capital + (1 | cre(firm, ~ value + capital))"
TEXT = "y ~ x + z + w + (1 | cre(id, ~ x + z))"


def panel(n: int = 80, T: int = 6, seed: int = 3, **missing: float) -> pd.DataFrame:
    """Random intercepts that depend on the means of x and z, and a covariate w of the subjects."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"id": np.repeat(np.arange(n), T), "t": np.tile(np.arange(T), n)})
    level, w = rng.normal(size=(2, n))
    frame["x"] = level[frame["id"]] + rng.normal(size=n * T)
    frame["z"] = 0.5 * level[frame["id"]] + rng.normal(size=n * T)
    frame["w"] = w[frame["id"]]
    alpha = 0.7 * level + 0.3 * w + 0.6 * rng.normal(size=n)
    eta = 0.5 * frame["x"] - 0.2 * frame["z"] + alpha[frame["id"]]
    frame["y"] = eta + rng.normal(size=n * T)
    frame["count"] = rng.poisson(np.exp(0.5 * eta))
    frame["yes"] = (rng.uniform(size=n * T) < 1 / (1 + np.exp(-eta))).astype(int)
    for name, share in missing.items():
        frame.loc[rng.uniform(size=n * T) < share, name] = np.nan
    return frame


def demeaned(frame: pd.DataFrame, names: list[str]) -> pd.Series:
    """The within estimator by hand, of rows without a gap."""
    seen = frame[[*names, "y", "id"]].dropna()
    inner = seen[[*names, "y"]] - seen.groupby("id")[[*names, "y"]].transform("mean")
    slope = np.linalg.lstsq(inner[names].to_numpy(), inner["y"].to_numpy(), rcond=None)[0]
    return pd.Series(slope, index=names)


def fitted(text: str, frame: pd.DataFrame, **options: object) -> Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mixed_model(text, frame, verbose=0, **options)


# -- the identity ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("kind", ["balanced", "dropped", "missing"])
@pytest.mark.parametrize("more", ["", " + I(x**2)", " + sin(3 * x) + x:z"])
def test_the_coefficients_are_those_within(method: str, kind: str, more: str) -> None:
    frame = panel(**({"y": 0.3} if kind == "missing" else {}))
    if kind == "dropped":
        frame = frame[np.random.default_rng(1).uniform(size=len(frame)) > 0.3]
    fit = fitted(f"y ~ x + z + w + (1 | cre(id, ~ x + z{more}))", frame, method=method)
    expected = demeaned(frame, ["x", "z"])
    np.testing.assert_allclose(fit.fixef()[["x", "z"]], expected, rtol=0, atol=1e-10)


def test_a_nonlinear_function_in_place_of_the_mean_loses_the_identity() -> None:
    frame = panel()
    fit = fitted("y ~ x + (1 | cre(id, ~ I(x**2)))", frame)
    assert abs(fit.fixef()["x"] - demeaned(frame, ["x"])["x"]) > 0.01


@pytest.mark.parametrize("balanced", [True, False])
def test_chamberlains_device_gives_them_too(balanced: bool) -> None:
    frame = panel()
    text = "y ~ x + z + (1 | cre(id, ~ x + z, device='chamberlain', time=t))"
    fit = fitted(text, frame if balanced else frame.sample(frac=1, random_state=2))
    expected = demeaned(frame, ["x", "z"])
    np.testing.assert_allclose(fit.fixef()[["x", "z"]], expected, atol=1e-10)


@pytest.mark.parametrize("name", ["grunfeld", "grunfeld_unbalanced"])
@pytest.mark.parametrize("method", ["ml", "reml"])
def test_the_fit_is_lme4s_with_means(name: str, method: str) -> None:
    known = reference("panel", name)
    frame = data("grunfeld").drop(index=[k - 1 for k in known.get("left_out", [])])
    fit = fitted(FIRMS, frame, method=method)
    assert float(fit.loglik()) == pytest.approx(known[method]["log_likelihood"], abs=1e-6)
    np.testing.assert_allclose(fit.fixef(), known[method]["estimate"], rtol=1e-6)
    found = fit.std_errors(kind="gls")
    np.testing.assert_allclose(found, known[method]["std_error"], rtol=1e-5)


def test_the_variational_route_ends_at_the_same_numbers() -> None:
    frame = panel(30, 4)
    exact = fitted(TEXT, frame)
    quick = {"epochs": 90, "polish": False}
    found = fitted(TEXT, frame, method="vae", control=quick)
    gap = (found.fixef() - exact.fixef()) / exact.std_errors()
    assert gap.abs().max() < 0.05
    within = demeaned(frame, ["x", "z"])
    assert (found.fixef()[["x", "z"]] - within).abs().max() < 0.05 * exact.std_errors()["x"]
    assert found.estimate.elbo is not None
    assert abs(found.estimate.elbo - float(exact.loglik())) / 30 < 0.01
    sd = found.var_corr()["sdcor"] / exact.var_corr()["sdcor"]
    np.testing.assert_allclose(sd, 1, atol=0.03)


def test_draws_are_about_the_same_numbers() -> None:
    frame = panel()
    exact = fitted(TEXT, frame, method="reml")
    options = {"method": "gibbs", "chains": 2, "draws": 600, "warmup": 100, "seed": 1}
    found = fitted(TEXT, frame, **options)
    gap = (found.fixef() - exact.fixef()) / exact.std_errors()
    assert gap.abs().max() < 0.25  # 600 draws of two chains, an effective size of 200 at least
    test = found.panel_test().table["within"]
    np.testing.assert_allclose(test["Estimate"].dropna(), demeaned(frame, ["x", "z"]), rtol=1e-9)
    with pytest.raises(ValueError, match="draws one standard deviation for all"):
        fitted("y ~ x + (1 | cre(id, ~ x, scale=~ w))", frame, **options)


# -- the tests -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("dropped", [0.0, 0.3])
def test_hausman_is_mundlak(method: str, dropped: float) -> None:
    frame = panel()
    frame = frame[np.random.default_rng(1).uniform(size=len(frame)) >= dropped]
    tests = fitted(TEXT, frame, method=method).panel_test().tests
    mundlak, hausman = tests.loc[
        ["Mundlak: no effect of the means", "Hausman, variances of the CRE fit"]
    ].to_numpy()
    assert mundlak[1] == hausman[1] == 2
    assert hausman[0] == pytest.approx(mundlak[0], rel=1e-8)
    assert mundlak[0] > 20


def test_time_dummies_that_are_alike_for_all_take_nothing_away() -> None:
    fit = fitted("y ~ x + factor(t) + (1 | cre(id, ~ x + factor(t)))", panel())
    tests = fit.panel_test().tests
    mundlak, hausman = tests.iloc[0], tests.loc["Hausman, variances of the CRE fit"]
    assert (mundlak["Df"], hausman["Df"]) == (1, 1)
    assert hausman["Chisq"] == pytest.approx(mundlak["Chisq"], rel=1e-6)


def test_firms_are_those_of_plm() -> None:
    known = reference("panel", "grunfeld")
    found = fitted(FIRMS, data("grunfeld")).panel_test(time="year")
    for label, key in (
        ("within", "within"),
        ("Swamy-Arora", "random"),
        ("first differences", "differences"),
    ):
        own = found.table[label].loc[known[key]["names"]]
        for column, numbers in (
            ("Estimate", "estimate"),
            ("Std. Error", "std_error"),
            ("Robust SE", "robust"),
        ):
            np.testing.assert_allclose(own[column], known[key][numbers], rtol=1e-8)
    hausman = found.tests.loc["Hausman, Swamy-Arora"]
    assert hausman["Chisq"] == pytest.approx(known["hausman"], rel=1e-8)
    assert hausman["Pr(>Chisq)"] == pytest.approx(0.3119, abs=5e-5)
    np.testing.assert_allclose(found.variances[["s_e", "s_a"]], known["sd"], rtol=1e-8)
    # the random effects of maximum likelihood are others by construction, and printed beside
    assert found.table["random effects"].loc["value", "Estimate"] == pytest.approx(
        0.10979, abs=5e-5
    )
    text = str(found)
    for shown in ("0.1101", "(0.01186)", "[0.01434]", "-57.83", "(28.9)", "2.33", "0.3119"):
        assert shown in text
    assert "order" not in text


def test_wages_are_those_of_plm() -> None:
    known = reference("panel", "psid7682")["within"]
    inner = "experience + I(experience**2) + weeks + occupation + industry + south + smsa"
    text = f"log(wage) ~ {inner} + married + union + education"
    text += f" + (1 | cre(id, ~ {inner} + married + union))"
    fit = fitted(text, data("psid7682"))
    table = fit.panel_test().table["within"]
    own = table[table["Estimate"].notna()]
    np.testing.assert_allclose(own["Estimate"], known["estimate"], rtol=1e-7)
    np.testing.assert_allclose(own["Std. Error"], known["std_error"], rtol=1e-7)
    np.testing.assert_allclose(own["Robust SE"], known["robust"], rtol=1e-7)
    np.testing.assert_allclose(fit.fixef()[own.index], known["estimate"], rtol=1e-7)


def test_the_models_beside_it_are_fits_of_their_own() -> None:
    frame = panel(y=0.2)
    fit = fitted(TEXT, frame)
    table = fit.panel_test().table
    plain = fitted("y ~ x + z + w + (1 | id)", frame)
    found = table["random effects"].dropna()
    np.testing.assert_allclose(found["Estimate"], plain.fixef(), rtol=1e-6)
    np.testing.assert_allclose(found["Std. Error"], plain.std_errors(kind="gls"), rtol=1e-6)
    np.testing.assert_allclose(table["CRE"]["Std. Error"], fit.std_errors(kind="gls"), rtol=1e-6)
    # the scores of a Gaussian fit in beta are those of generalized least squares
    robust = table["CRE"]["Robust SE"]
    seen = frame.dropna()
    sd = fit.var_corr()["sdcor"].to_numpy()
    bread, meat = 0.0, 0.0
    X = np.column_stack([np.ones(len(seen)), seen[["x", "z", "w"]]])
    means = seen.groupby("id")[["x", "z"]].transform("mean")
    X = np.column_stack([X, means])
    left = seen["y"].to_numpy() - X @ fit.fixef().to_numpy()
    for one in seen["id"].unique():
        at = (seen["id"] == one).to_numpy()
        V = sd[0] ** 2 * np.ones((at.sum(), at.sum())) + sd[1] ** 2 * np.eye(at.sum())
        W = np.linalg.solve(V, X[at])
        bread, meat = bread + X[at].T @ W, meat + np.outer(W.T @ left[at], W.T @ left[at])
    inverse = np.linalg.inv(bread)
    np.testing.assert_allclose(robust, np.sqrt(np.diag(inverse @ meat @ inverse)), rtol=1e-6)


@pytest.mark.parametrize(("family", "outcome"), [("poisson", "count"), ("bernoulli", "yes")])
def test_discrete_outcomes_given_their_sums(family: str, outcome: str) -> None:
    frame = panel()
    text = f"{outcome} ~ x + z + (1 | cre(id, ~ x + z))"
    fit = fitted(text, frame, family=family)
    found = fit.panel_test(time="t")
    inner, cre, random = (
        found.table[name]["Estimate"] for name in ("within", "CRE", "random effects")
    )
    error = found.table["within"]["Std. Error"]
    # both leave the levels out, one exactly; random effects are pulled towards the effect between
    assert (np.abs(inner - cre)[["x", "z"]] < error[["x", "z"]]).all()
    assert random["x"] > cre["x"] + error["x"]
    assert found.tests.loc["Hausman", "Pr(>Chisq)"] < 0.05
    plain = fitted(f"{outcome} ~ x + z + (1 | id)", frame, family=family)
    np.testing.assert_allclose(random.dropna(), plain.fixef(), atol=1e-4)
    robust = found.table["CRE"]["Robust SE"]
    np.testing.assert_allclose(robust, fit.std_errors(kind="sandwich"), rtol=1e-8)


def test_average_partial_effects_are_slopes_of_the_average_over_subjects() -> None:
    frame = panel(60).assign(g=lambda d: np.where(d["t"] % 2 == 0, "a", "b"))
    fit = fitted("yes ~ x + I(x**2) + g + (1 | cre(id, ~ x + z))", frame, family="bernoulli")
    effects = fit.panel_test(time="t").partial_effects
    assert effects is not None
    assert list(effects.index) == ["x", "g: b - a"]
    beta, sd = fit.fixef(), float(fit.var_corr()["sdcor"].iloc[0])
    node, weight = np.polynomial.hermite_e.hermegauss(40)
    weight = weight / weight.sum()
    means = frame.groupby("id")[["x", "z"]].transform("mean")
    rest = beta.iloc[0] + means.to_numpy() @ beta.iloc[4:].to_numpy()
    curve = rest + beta["x"] * frame["x"] + beta["I(x ** 2)"] * frame["x"] ** 2
    eta = (curve + beta["gb"] * (frame["g"] == "b")).to_numpy()[:, None] + sd * node
    p = 1 / (1 + np.exp(-eta))
    slope = (beta["x"] + 2 * beta["I(x ** 2)"] * frame["x"]).to_numpy()
    expected = (slope * ((p * (1 - p)) @ weight)).mean()
    assert effects.loc["x", "Estimate"] == pytest.approx(expected, rel=1e-6)
    both = [1 / (1 + np.exp(-(curve.to_numpy()[:, None] + b + sd * node))) for b in (beta["gb"], 0)]
    expected = ((both[0] - both[1]) @ weight).mean()
    assert effects.loc["g: b - a", "Estimate"] == pytest.approx(expected, rel=1e-6)


def test_the_error_of_a_partial_effect_is_the_delta_methods() -> None:
    frame = panel(60)
    fit = fitted("count ~ x + (1 | cre(id, ~ x))", frame, family="poisson")
    effects = fit.panel_test(time="t").partial_effects
    assert effects is not None
    info = fit.information
    assert info is not None
    mean = torch.tensor(frame.groupby("id")["x"].transform("mean"))
    x, model = torch.from_numpy(frame["x"].to_numpy()), fit.estimate.model

    def effect(vector: torch.Tensor) -> torch.Tensor:
        theta = {**fit.estimate.theta, **info.packing.unpack(vector)}
        beta = model.basis @ theta["beta"]
        sd = model.latents[0].loadings({"log_diagonal": theta["latent1.log_diagonal"]})[0, 0]
        return (beta[1] * torch.exp(beta[0] + beta[1] * x + beta[2] * mean + sd**2 / 2)).mean()

    at = info.packing.pack(fit.estimate.theta).detach()
    slope = torch.func.grad(effect)(at)
    assert effects.loc["x", "Estimate"] == pytest.approx(float(effect(at)), rel=1e-7)
    assert effects.loc["x", "Std. Error"] == pytest.approx(
        float(slope @ info.vcov @ slope) ** 0.5, rel=1e-5
    )


def test_a_fit_without_standard_errors_has_no_partial_effects_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fit = fitted("count ~ x + (1 | cre(id, ~ x))", panel(30), family="poisson")
    own = panel_tests.estimators

    def unknown(*args: object) -> Estimators:
        found = own(*args)  # type: ignore[arg-type]
        cre = replace(found.cre, vcov=np.full_like(found.cre.vcov, np.nan))
        return found._replace(cre=cre)

    monkeypatch.setattr(panel_tests, "estimators", unknown)
    found = fit.panel_test(time="t")
    assert found.partial_effects is None
    assert "no average partial effects: the fit has no standard errors" in found.notes


def test_feedback_is_found_by_the_leads() -> None:
    frame = panel(150)
    rng = np.random.default_rng(8)
    noise = rng.normal(size=len(frame))
    frame["y"] = 0.5 * frame["x"] + noise
    later = (frame["t"] > 0).to_numpy()
    back = frame.assign(x=frame["x"] + np.where(later, 0.5 * np.roll(noise, 1), 0.0))
    back["y"] = 0.5 * back["x"] + noise
    text, lead = (
        "y ~ x + (1 | cre(id, ~ x))",
        "strict exogeneity: no effect of leads, cluster-robust",
    )
    assert fitted(text, back).panel_test(time="t").tests.loc[lead, "Pr(>Chisq)"] < 1e-10
    assert fitted(text, frame).panel_test(time="t").tests.loc[lead, "Pr(>Chisq)"] > 0.01
    # the order of rows is that of time, not of the frame
    mixed = back.sample(frac=1, random_state=4)
    ours = fitted(text, mixed).panel_test(time="t").tests
    pd.testing.assert_frame_equal(ours, fitted(text, back).panel_test().tests, rtol=1e-6)


def test_a_model_beside_it_without_a_covariance_leaves_hausman_out() -> None:
    names = ("x", "z")
    inner = Estimator(names, np.ones(2), np.eye(2), np.eye(2))
    other = Estimator(names, np.ones(2), np.full((2, 2), np.nan), np.eye(2))
    found = _difference(inner, other)
    assert np.isnan(found.values["Chisq"])
    assert "has not converged" in found.said


# -- in words --------------------------------------------------------------------------------------


def test_effects_within_and_between_stand_in_the_summary() -> None:
    fit = fitted(FIRMS, data("grunfeld"))
    text = str(fit.summary())
    assert "Effects within and between firm" in text
    beta = fit.fixef()
    between = beta["value"] + beta["mean(value | firm)"]
    assert between == pytest.approx(0.134646, abs=5e-7)  # plm's between estimator, balanced
    assert "0.13465" in text
    assert "Mundlak test that random intercept and covariates are uncorrelated" in text
    assert "chisq(2) =" in " ".join(text.split())
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "Effects within" not in str(
        fitted("inv ~ value + (1 | firm)", data("grunfeld")).summary()
    )


def test_covariates_whose_means_are_not_given_are_named() -> None:
    found = fitted("y ~ x + z + (1 | cre(id, ~ x))", panel()).panel_test(time="t")
    assert "no mean in cre() of what varies within `id` and between: `z`" in " ".join(found.notes)
    assert np.isnan(found.tests.loc["Hausman, variances of the CRE fit", "Chisq"])
    slopes = fitted("y ~ x + z + (x | cre(id, ~ x + z))", panel()).panel_test(time="t")
    assert "for one random intercept alone" in " ".join(slopes.notes)


def test_what_cannot_be_tested_is_refused_in_words() -> None:
    frame = panel(30)
    cases = {
        "y ~ x + (1 | id)": (r"has none: fit it with \(1 \| cre", {}),
        "y ~ w + (1 | cre(id, ~ w))": ("no mean in cre", {}),
        "y ~ x + (1 | cre(id, ~ x)) + (1 | t)": ("one grouping factor", {}),
        "y ~ z + (1 | cre(id, ~ z))": ("without prior weights", {"weights": frame["w"].abs() + 1}),
        "y ~ x + z + (1 | cre(id, ~ z))": ("zi= and dispersion=", {"dispersion": "~ x"}),
    }
    for text, (message, options) in cases.items():
        with pytest.raises(ValueError, match=message):
            fitted(text, frame, **options).panel_test()
    with pytest.raises(ValueError, match="no column 'year'"):
        fitted("y ~ x + (1 | cre(id, ~ x))", frame).panel_test(time="year")
    with pytest.raises(TypeError, match="needs a fit"):
        dgmm.panel_test(frame)


# -- new rows --------------------------------------------------------------------------------------


def test_predictions_know_the_means_of_subjects(tmp_path: Path) -> None:
    frame = panel(40)
    fit = fitted("y ~ x + (1 | cre(id, ~ x))", frame)
    beta, (tau, sigma) = fit.fixef(), fit.var_corr()["sdcor"]
    rows = pd.DataFrame({"id": [3, 99, 99], "x": [2.0, -1.0, 4.0]})
    own = frame[frame["id"] == 3]
    m = own["x"].mean()
    shrunk = tau**2 / (tau**2 + sigma**2 / len(own))
    known = beta.iloc[0] + beta["mean(x | id)"] * m
    b = shrunk * (own["y"].mean() - known - beta["x"] * m)
    new = beta.iloc[0] + beta["mean(x | id)"] * 1.5
    expected = [known + 2 * beta["x"] + b, new - beta["x"], new + 4 * beta["x"]]
    np.testing.assert_allclose(fit.predict(rows)["fit"], expected, rtol=1e-8)
    fit.save(tmp_path / "fit")
    np.testing.assert_allclose(
        dgmm.load(tmp_path / "fit").predict(rows)["fit"], expected, rtol=1e-8
    )
    # a history says what a new subject is like; its new rows do not
    past = pd.DataFrame({"id": [99, 99], "x": [0.0, 1.0], "y": [1.0, 2.5]})
    level = beta.iloc[0] + beta["mean(x | id)"] * 0.5
    b = tau**2 / (tau**2 + sigma**2 / 2) * (1.75 - level - beta["x"] * 0.5)
    found = fit.predict(rows.iloc[1:], history=past)["fit"]
    np.testing.assert_allclose(found, level + b + beta["x"] * np.array([-1.0, 4.0]), rtol=1e-8)


def test_effects_of_a_covariate_are_those_within() -> None:
    fit = fitted("y ~ x + (1 | cre(id, ~ x))", panel(40))
    line = fit.effects("x", grid=2)
    slope = (line["fit"].iloc[1] - line["fit"].iloc[0]) / (line["x"].iloc[1] - line["x"].iloc[0])
    assert slope == pytest.approx(fit.fixef()["x"], rel=1e-9)
    assert fit.slopes("x")["Estimate"].iloc[0] == pytest.approx(fit.fixef()["x"], rel=1e-7)


# -- a network of the means ------------------------------------------------------------------------


def test_a_network_of_the_means_keeps_the_identity_and_predicts_new_subjects() -> None:
    def simulated(n: int, seed: int) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        id, level = np.repeat(np.arange(n), 6), 1.2 * rng.normal(size=n)
        x = level[id] + 0.7 * rng.normal(size=6 * n)
        mean = pd.Series(x).groupby(id).mean().to_numpy()
        alpha = 1.5 * np.sin(2 * mean) + 0.4 * rng.normal(size=n)
        y = 0.5 * x + alpha[id] + rng.normal(size=6 * n)
        return pd.DataFrame({"id": id, "x": x, "y": y})

    frame, new = simulated(200, 1), simulated(300, 2).assign(id=lambda d: d["id"] + 10_000)
    linear = fitted("y ~ x + (1 | cre(id, ~ x))", frame)
    deep = fitted("y ~ x + (1 | cre(id, ~ dnn(x, hidden=(8,))))", frame, control={"holdout": 0.0})
    np.testing.assert_allclose(deep.fixef()["x"], demeaned(frame, ["x"])["x"], atol=1e-8)
    gain = deep.log_score(new)["log_score"] - linear.log_score(new)["log_score"]
    assert gain.mean() > 0.05 + 4 * gain.std() / len(gain) ** 0.5
    assert "Between is linear here" in str(deep.summary())
    with pytest.raises(ValueError, match=r"without dnn\(\)"):
        deep.panel_test()
