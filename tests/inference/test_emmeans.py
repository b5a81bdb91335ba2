"""Marginal means and comparisons among them, against R's emmeans."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import data, reference
from scipy import stats
from scipy.special import expit
from toys import crossed_gaussian

from dgmm import Fit, mixed_model

QUIET: dict[str, Any] = {"verbose": 0}


def orthodont_frame() -> pd.DataFrame:
    frame = data("orthodont")
    return frame.drop(frame.index[[2, 16, 49, 50, 51]])


def crossed_frame() -> pd.DataFrame:
    frame = crossed_gaussian()
    place = (np.arange(1, len(frame) + 1) * 7) % 11 % 3
    return frame.assign(arm=np.array(["a", "b", "c"])[place])


@pytest.fixture(scope="module")
def fits() -> dict[str, Fit]:
    reml: dict[str, Any] = {"method": "reml", **QUIET}
    laplace: dict[str, Any] = {"likelihood": "laplace", **QUIET}
    use = data("contraception")
    return {
        "orthodont": mixed_model(
            "distance ~ factor(age) * Sex + (1 | Subject)", orthodont_frame(), **reml
        ),
        "milk": mixed_model("protein ~ Diet * Time + (1 | Cow)", data("milk"), **reml),
        "crossed": mixed_model("y ~ arm + x + (1 | g) + (1 | h)", crossed_frame(), **reml),
        "sleepstudy": mixed_model("Reaction ~ Days + (Days | Subject)", data("sleepstudy"), **reml),
        "epil": mixed_model(
            "y ~ trt * factor(period) + lbase + lage + (1 | subject)",
            data("epil"),
            family="poisson",
            **laplace,
        ),
        "contraception": mixed_model(
            "use ~ urban * livch + age + (1 | district)", use, family="bernoulli", **laplace
        ),
    }


def at_theirs(fit: Fit, stored: dict[str, Any]) -> Fit:
    """The fit at R's coefficients and their covariance: lme4's Laplace is good to 8e-6 itself."""
    done, info = fit.estimate, fit.information
    assert info is not None
    basis = torch.linalg.inv(done.model.basis)
    beta, V = (torch.tensor(stored[name], dtype=torch.float64) for name in ("coef", "vcov"))
    vcov, where = info.vcov.clone(), info.packing.positions(["beta"])
    vcov[where[:, None], where] = basis @ V @ basis.T
    theta = {**done.theta, "beta": basis @ beta}
    return replace(fit, estimate=replace(done, theta=theta), information=replace(info, vcov=vcov))


MEANS = {"mean": "emmean", "se": "SE", "df": "df", "lower": "LCL", "upper": "UCL"}
PAIRS = {
    "Estimate": "estimate",
    "Std. Error": "SE",
    "df": "df",
    "t value": "t.ratio",
    "Pr(>|t|)": "p.value",
    "z value": "z.ratio",
    "Pr(>|z|)": "p.value",
    "lower": "LCL",
    "upper": "UCL",
}


def agree(ours: pd.DataFrame, theirs: dict[str, Any], names: dict[str, str]) -> None:
    """Every column that both have, to 1e-6; degrees of freedom, of which R has six digits, 1e-5."""
    stored = {
        name.replace("lower.CL", "LCL").replace("upper.CL", "UCL"): v for name, v in theirs.items()
    }
    stored = {name.removeprefix("asymp."): v for name, v in stored.items()}
    shared = [name for name in names if name in ours and names[name] in stored]
    assert len(shared) >= 4
    for name in shared:
        tolerance = 1e-5 if name == "df" else 1e-6
        expected = np.array(stored[names[name]], dtype=float)
        np.testing.assert_allclose(ours[name], expected, rtol=tolerance, atol=1e-7, err_msg=name)


KR: dict[str, Any] = {"df": "kenward-roger"}
SIX = {
    "orthodont": (("age",), {"by": "Sex", **KR}, "tukey"),
    "milk": (("Diet",), {"by": "Time", "at": {"Time": [2, 15]}, **KR}, "tukey"),
    "crossed": (("arm",), KR, "bonferroni"),
    "sleepstudy": (("Days",), {"at": {"Days": [0, 3, 9]}, **KR}, "none"),
    "epil": (("period",), {"by": "trt"}, "tukey"),
    "contraception": (("livch",), {}, "none"),
}


@pytest.mark.parametrize("name", SIX)
def test_six_models_as_emmeans(name: str, fits: dict[str, Fit]) -> None:
    fit, stored = fits[name], reference("means", name)
    names, options, adjust = SIX[name]
    if "coef" in stored:
        np.testing.assert_allclose(fit.fixef(), stored["coef"], atol=4e-6)
        np.testing.assert_allclose(fit.std_errors(), np.sqrt(np.diag(stored["vcov"])), rtol=8e-6)
        fit = at_theirs(fit, stored)
    means = fit.emmeans(names, **options)
    agree(means.table, stored["means"], MEANS)
    agree(means.pairs(adjust), stored["pairs"], PAIRS)


def test_means_over_other_factors(fits: dict[str, Fit]) -> None:
    means = fits["orthodont"].emmeans("Sex", **KR)
    stored = reference("means", "orthodont")["over"]
    agree(means.table, stored["means"], MEANS)
    agree(means.pairs(), stored["pairs"], PAIRS)
    assert "averaged over age (equal weights)" in str(means)
    milk = fits["milk"].emmeans("Diet", by="Time", at={"Time": [2, 15]})
    stored = reference("means", "milk")["satterthwaite"]
    agree(milk.table, stored["means"], MEANS)
    agree(milk.pairs("holm"), stored["pairs"], PAIRS)
    assert "degrees of freedom: Satterthwaite" in str(milk)


def test_proportional_weights_and_ratios(fits: dict[str, Fit]) -> None:
    stored = reference("means", "contraception")
    fit = at_theirs(fits["contraception"], stored)
    means = fit.emmeans("livch", weights="proportional")
    agree(means.table, stored["proportional"]["means"], MEANS)
    agree(means.pairs(), stored["proportional"]["pairs"], PAIRS)
    odds = fit.emmeans("livch").contrast("reference", "none", compare="odds_ratio")
    agree(odds, stored["odds"], {**PAIRS, "Estimate": "odds.ratio"})
    stored = reference("means", "epil")
    rates = at_theirs(fits["epil"], stored).emmeans("trt").pairs(compare="ratio")
    agree(rates, stored["ratios"], {**PAIRS, "Estimate": "ratio"})
    assert list(rates.index) == ["placebo / progabide"]


def test_means_of_the_population_are_averages_of_quadratures(cbpp: Fit) -> None:
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    sd, beta = cbpp.var_corr()["sdcor"].iloc[0], cbpp.fixef().to_numpy()
    eta = beta[0] + np.append(0, beta[1:])
    expected = expit(eta[:, None] + sd * nodes) @ weights
    table = cbpp.emmeans("period", scale="response").table
    np.testing.assert_allclose(table["mean"], expected, atol=1e-9)
    assert "population" in table.title
    zero = cbpp.emmeans("period", scale="response", type="mean_subject").table
    np.testing.assert_allclose(zero["mean"], expit(eta), rtol=1e-10)
    odds = cbpp.emmeans("period", scale="response").contrast("reference", compare="odds_ratio")
    p = expected / (1 - expected)
    np.testing.assert_allclose(odds["Estimate"], p[1:] / p[0], rtol=1e-7)
    whole = cbpp.contrast({"period": "2"}, {"period": "1"}, scale="response")
    pair = cbpp.emmeans("period", scale="response").contrast("reference", "none")
    np.testing.assert_allclose(pair.iloc[0].to_numpy(), whole.iloc[0].to_numpy(), rtol=1e-7)


def test_weights_of_the_sample(epil: Fit) -> None:
    """The average of predictions with the arm set in every observed row."""
    frame = data("epil")
    means = epil.emmeans("trt", weights="sample", scale="response", type="mean_subject").table
    for place, arm in enumerate(("placebo", "progabide")):
        new = frame.assign(trt=arm)
        expected = epil.predict(new, type="mean_subject")["fit"].mean()
        assert means["mean"].iloc[place] == pytest.approx(expected, rel=1e-9)


def test_an_empty_cell_is_missing_and_named() -> None:
    frame = data("orthodont").assign(size=lambda d: np.where(d["age"] > 10, "big", "small"))
    frame = frame[~((frame["Sex"] == "Female") & (frame["size"] == "big"))]
    with pytest.warns(UserWarning, match="dropped from the fixed terms"):
        fit = mixed_model("distance ~ Sex * size + (1 | Subject)", frame, method="reml", **QUIET)
    means = fit.emmeans(["Sex", "size"])
    lost = (means.table["Sex"] == "Female") & (means.table["size"] == "big")
    assert means.table["mean"].isna().to_list() == lost.to_list()
    assert "not estimable: Sex = Female, size = big: this needs the effect of" in str(means)
    pairs = means.pairs()
    assert pairs["Estimate"].isna().sum() == 3
    assert np.isfinite(pairs["Pr(>|t|)"]).sum() == 3
    # the mean of the Female over both sizes needs the empty cell, over the sample as well
    assert fit.emmeans("Sex").table["mean"].isna().to_list() == [False, True]
    one = fit.emmeans("Sex", weights="proportional", at={"size": ["small"]})
    assert one.table["mean"].notna().all()


def test_offsets_are_rates() -> None:
    frame = data("epil").assign(weeks=np.linspace(1.0, 4.0, len(data("epil"))))
    formula = "y ~ trt + offset(log(weeks)) + (1 | subject)"
    fit = mixed_model(formula, frame, family="poisson", **QUIET)
    beta = fit.fixef()
    means = fit.emmeans("trt")
    np.testing.assert_allclose(means.table["mean"], [beta.iloc[0], beta.sum()], rtol=1e-9)
    assert "offset held at 0 (a rate)" in str(means)
    two = fit.emmeans("trt", offset=np.log(2.0)).table["mean"]
    np.testing.assert_allclose(two - means.table["mean"], np.log(2.0), rtol=1e-9)


def test_contrasts_of_ones_own(fits: dict[str, Fit]) -> None:
    fit = fits["orthodont"]
    means = fit.emmeans("age", by="Sex")
    found = means.contrast({"late - early": [-0.5, -0.5, 0.5, 0.5]})
    m = means.table["mean"].to_numpy().reshape(2, 4)
    np.testing.assert_allclose(found["Estimate"], m @ [-0.5, -0.5, 0.5, 0.5], rtol=1e-12)
    assert found["Sex"].to_list() == ["Male", "Female"]
    after = means.contrast("consecutive", "none")
    np.testing.assert_allclose(after["Estimate"], np.diff(m, axis=1).ravel(), rtol=1e-12)
    around = means.contrast("average", "none")
    expected = m - m.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(around["Estimate"], expected.ravel(), rtol=1e-9)
    last = means.contrast("reference", "none", reference=-1)
    np.testing.assert_allclose(last["Estimate"], (m[:, :3] - m[:, 3:]).ravel(), rtol=1e-12)
    fixed = fit.emmeans("Sex", df=10).pairs()
    t = fixed["t value"].iloc[0]
    assert fixed["Pr(>|t|)"].iloc[0] == pytest.approx(2 * stats.t.sf(abs(t), 10), rel=1e-10)
    normal = fit.emmeans("Sex", df=None).pairs()
    assert normal["Pr(>|z|)"].iloc[0] == pytest.approx(2 * stats.norm.sf(abs(t)), rel=1e-9)


def test_a_network_has_means_too(curved: Fit) -> None:
    table = curved.emmeans("g", at={"z": [0.5]}).table
    held = {**curved.held_covariates(), "z": 0.5}
    new = pd.DataFrame({**held, "g": table["g"], "id": -1})
    peer = curved.predict(new, type="mean_subject", scale="link", interval="confidence")
    for ours, theirs in (("mean", "fit"), ("se", "se"), ("lower", "lower"), ("upper", "upper")):
        np.testing.assert_allclose(table[ours], peer[theirs], rtol=1e-8)


def test_everything_prints_within_80_columns(fits: dict[str, Fit]) -> None:
    means = fits["orthodont"].emmeans(["Sex", "age"])
    for shown in (means, means.pairs(), means.contrast("reference")):
        lines = str(shown).splitlines()
        assert max(map(len, lines)) <= 80
        assert not any("..." in line for line in lines)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f.emmeans("sex"), "'sex' is no covariate of the fixed part; did you mean 'Sex'"),
        (lambda f: f.emmeans("Sex", at={"age": []}), "at= has no value of `age`"),
        (lambda f: f.emmeans([]), "needs the name of at least one covariate"),
        (lambda f: f.emmeans("Sex", by="Sex"), "'Sex' is in both the means and by="),
        (
            lambda f: f.emmeans("Sex", weights="even"),
            "weights is 'equal', 'proportional'",
        ),
        (lambda f: f.emmeans("Sex", df="t"), "df is 'auto', 'satterthwaite', 'kenward-roger'"),
        (lambda f: f.emmeans("Sex", df=-1), "df is a positive number of degrees of freedom"),
        (lambda f: f.emmeans("Sex").pairs("fdr"), "adjust is 'none', 'bonferroni', 'holm'"),
        (lambda f: f.emmeans("Sex").contrast("poly"), "method is 'pairwise', 'reference'"),
        (lambda f: f.emmeans("Sex").contrast({"a": [1]}), "contrast 'a' needs 2 finite factors"),
        (lambda f: f.emmeans("Sex").contrast("average", "tukey"), "adjust='tukey' is for pairs"),
        (lambda f: f.emmeans("Sex").pairs(compare="ratio"), "needs the log link, and this fit has"),
    ],
)
def test_bad_input_is_named(fits: dict[str, Fit], call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(fits["orthodont"])
