"""compare(): the classical counterpart by statsmodels beside the fit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from conftest import DEEP, FORMULAS, data

from dgmm import Fit, compare, mixed_model
from dgmm.comparison import Comparison


@pytest.fixture(scope="module")
def both(sleepstudy: Fit) -> Comparison:
    return compare(sleepstudy)


def split(share: int = 4) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Subjects of the fit and subjects held out."""
    frame = data("sleepstudy")
    away = frame["Subject"].isin(frame["Subject"].unique()[::share])
    return frame[~away], frame[away]


@pytest.mark.parametrize("name", ["sleepstudy", "orthodont"])
def test_both_give_the_same_numbers(name: str, fit_of: Callable[..., Fit]) -> None:
    fit = fit_of(name)
    found = compare(fit)
    ours, theirs = found.fixed["dgmm"], found.fixed["MixedLM"]
    assert list(found.fixed.index) == list(fit.fixef().index)
    assert ((ours - theirs) / fit.std_errors()).abs().max() < 1e-3
    np.testing.assert_allclose(found.fixed["MixedLM SE"], fit.std_errors(kind="gls"), rtol=1e-2)
    np.testing.assert_allclose(found.random["dgmm"], found.random["MixedLM"], rtol=5e-3, atol=1e-3)
    row = found.statistics.loc["log-likelihood"]
    assert row["dgmm"] == pytest.approx(row["MixedLM"], abs=1e-3)
    assert row["dgmm"] >= row["MixedLM"] - 1e-6
    sigma = found.statistics.loc["sigma"]
    assert sigma["dgmm"] == pytest.approx(sigma["MixedLM"], rel=1e-3)


def test_the_columns_are_those_of_the_fit(both: Comparison, sleepstudy: Fit) -> None:
    pd.testing.assert_series_equal(both.fixed["dgmm"], sleepstudy.fixef(), check_names=False)
    pd.testing.assert_series_equal(
        both.fixed["dgmm SE"], sleepstudy.std_errors(), check_names=False
    )
    assert list(both.random.index) == ["sd((Intercept))", "sd(Days)", "cor((Intercept), Days)"]
    np.testing.assert_allclose(both.random["dgmm"], sleepstudy.var_corr()["sdcor"][:3])
    rmse = np.sqrt(np.mean(sleepstudy.residuals() ** 2))
    assert both.statistics.loc["RMSE, subjects of the fit", "dgmm"] == pytest.approx(rmse, rel=1e-8)


def test_the_report_shows_no_standard_errors_of_variances(both: Comparison) -> None:
    assert not [name for name in both.random if "SE" in name]
    text = str(both)
    assert text.startswith("Comparison with statsmodels MixedLM (ML)\nFormula: Reaction ~ Days")
    assert repr(both) == text
    for word in ("251.41", "10.467", "-875.97", "Fixed effects:", "RMSE"):
        assert word in text
    assert "nan" not in text.lower()
    assert both._repr_html_().count("<table") == 3
    assert "251.41" in both._repr_html_()


def test_diagonal_covariance_is_passed_on() -> None:
    fit = mixed_model("Reaction ~ Days + (Days || Subject)", data("sleepstudy"), verbose=0)
    found = compare(fit)
    row = found.statistics.loc["log-likelihood"]
    assert row["dgmm"] == pytest.approx(row["MixedLM"], abs=1e-3)
    assert found.random["MixedLM"]["cor((Intercept), Days)"] == 0


def test_offset_is_passed_on() -> None:
    frame = data("sleepstudy").assign(known=lambda d: 10 * d["Days"])
    fit = mixed_model(FORMULAS["sleepstudy"], frame, offset="known", verbose=0)
    row = compare(fit).statistics.loc["log-likelihood"]
    assert row["dgmm"] == pytest.approx(row["MixedLM"], abs=1e-3)


def test_subjects_held_out() -> None:
    kept, away = split()
    fit = mixed_model(FORMULAS["sleepstudy"], kept, verbose=0)
    found = compare(fit, away)
    population = fit.fixef()["(Intercept)"] + fit.fixef()["Days"] * away["Days"]
    rmse = np.sqrt(np.mean((away["Reaction"] - population) ** 2))
    row = found.statistics.loc["RMSE, held-out, no history"]
    assert row["dgmm"] == pytest.approx(rmse, rel=1e-8)
    assert row["MixedLM"] == pytest.approx(rmse, rel=1e-3)
    past, later = away[away["Days"] < 5], away[away["Days"] >= 5]
    ahead = fit.predict(later, history=past)["fit"]
    rmse = np.sqrt(np.mean((later["Reaction"] - ahead) ** 2))
    row = found.statistics.loc["RMSE, held-out, later visits given earlier"]
    assert row["dgmm"] == pytest.approx(rmse, rel=1e-8)
    assert row["MixedLM"] == pytest.approx(rmse, rel=1e-3)
    assert "held-out" in str(found)


def test_subjects_with_one_visit_have_no_later_ones() -> None:
    kept, away = split()
    fit = mixed_model(FORMULAS["sleepstudy"], kept, verbose=0)
    found = compare(fit, away[away["Days"] == 0]).statistics
    first = away.loc[away["Days"] == 0, "Reaction"] - fit.fixef()["(Intercept)"]
    assert found.loc["RMSE, held-out, no history", "dgmm"] == pytest.approx(
        np.sqrt(np.mean(first**2)), rel=1e-8
    )
    assert found.loc["RMSE, held-out, later visits given earlier"].isna().all()


def test_a_deep_fit_is_set_beside_its_nested_model() -> None:
    kept, away = split()
    control = {"epochs": 4, "holdout": 0.0, "draws": 64, "polish_draws": 32}
    fit = mixed_model(DEEP, kept, control=control, verbose=0)
    found = compare(fit, away)
    assert fit.estimate.nested is not None
    row = found.statistics.loc["log-likelihood"]
    assert row["dgmm"] == pytest.approx(float(fit.loglik()))
    assert row["MixedLM"] == pytest.approx(fit.estimate.nested.log_likelihood, abs=0.05)
    assert list(found.random) == ["MixedLM"]
    assert any("linear" in note for note in found.notes)
    assert found.statistics.notna().all(axis=None)


def test_a_subject_of_the_fit_is_not_held_out(sleepstudy: Fit) -> None:
    with pytest.raises(ValueError, match="not in the fit; 308"):
        compare(sleepstudy, data("sleepstudy").head(12))


def test_what_cannot_be_compared(cbpp: Fit, sleepstudy_reml: Fit) -> None:
    with pytest.raises(ValueError, match="MixedLM.*'binomial'.*loglik"):
        compare(cbpp)
    with pytest.raises(ValueError, match="method='ml'"):
        compare(sleepstudy_reml)
    frame = data("sleepstudy").assign(w=np.tile([1.0, 2.0], 90))
    with pytest.raises(ValueError, match="weights"):
        compare(mixed_model(FORMULAS["sleepstudy"], frame, weights="w", verbose=0))


def test_a_search_that_stopped_short_is_not_called_another_model() -> None:
    r = np.random.default_rng(3)
    id, t = np.repeat(np.arange(30), 6), np.tile(np.arange(6.0), 30)
    b = r.normal(size=(30, 2)) @ np.array([[1.0, 0.3], [0.0, 0.4]])
    y = 1 + 0.3 * t + b[id, 0] + b[id, 1] * t + 0.9 * r.normal(size=180)
    for age, told in ((0, False), (10, True)):
        data = pd.DataFrame({"y": y, "t": t + age, "id": id})
        fit = mixed_model("y ~ t + (t | id)", data, verbose=0)
        notes = compare(fit).notes
        assert any("below the maximum of this model" in note for note in notes) == told
