"""Every step after a fit with two crossed factors, against lme4 and lmerTest (crossed.json)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import reference
from toys import crossed_gaussian, crossed_poisson

from dgmm import Fit, mixed_model

FORMULAS = {
    "crossed_gaussian": "y ~ x + (1 | g) + (1 | h)",
    "crossed_poisson": "c ~ x + (1 | g) + (1 | h)",
}
FRAMES = {"crossed_gaussian": crossed_gaussian, "crossed_poisson": crossed_poisson}
FAMILIES = {"crossed_gaussian": "gaussian", "crossed_poisson": "poisson"}
BOTH = pytest.mark.parametrize("name", FORMULAS)


def made(name: str, formula: str | None = None, **options: Any) -> Fit:
    text = formula or FORMULAS[name]
    return mixed_model(text, FRAMES[name](), family=FAMILIES[name], verbose=0, **options)


@pytest.fixture(scope="module")
def fits() -> dict[str, Fit]:
    return {name: made(name) for name in FORMULAS}


@pytest.fixture(scope="module")
def restricted() -> Fit:
    return made("crossed_gaussian", method="reml")


@BOTH
def test_the_log_likelihood_and_standard_errors(name: str, fits: dict[str, Fit]) -> None:
    stored = reference("crossed", name)
    own = stored["ml" if name == "crossed_gaussian" else "laplace"]
    fit = fits[name]
    assert fit.loglik().value == pytest.approx(own["log_likelihood"], abs=1e-6)
    np.testing.assert_allclose(fit.fixef(), list(own["fixef"].values()), rtol=1e-4, atol=1e-6)
    errors = fit.var_corr().set_index("group")["se_working"]
    for factor in ("g", "h"):
        assert errors[factor] == pytest.approx(own["se_log_sd"][factor], rel=1e-3)


@BOTH
def test_refit_keeps_every_factor(name: str, fits: dict[str, Fit]) -> None:
    fit, data = fits[name], FRAMES[name]()
    stored, rows = reference("crossed", name)["refit"], np.arange(len(data))
    if name == "crossed_gaussian":
        assert fit.refit(data.y).loglik().value == pytest.approx(stored["same"], abs=1e-6)
        other, value = data.y + np.cos(rows), stored["plus_cosine"]
    else:
        other, value = data.c + rows % 2, stored["plus_odd"]
    assert fit.refit(other).loglik().value == pytest.approx(value, abs=1e-5)


@BOTH
def test_drop1_compares_fits_of_the_same_factors(name: str, fits: dict[str, Fit]) -> None:
    stored, row = reference("crossed", name)["drop1"]["x"], fits[name].drop1().table.loc["x"]
    assert row["LRT"] == pytest.approx(stored["LRT"], abs=1e-5)
    assert row["Pr(>Chisq)"] == pytest.approx(stored["p"], abs=1e-4)


@BOTH
def test_ranova_drops_one_factor_at_a_time(name: str, fits: dict[str, Fit]) -> None:
    stored, table = reference("crossed", name)["ranova"], fits[name].ranova().table
    for factor in ("g", "h"):
        row = table.loc[f"(Intercept) | {factor}"]
        assert row["LRT"] == pytest.approx(stored[factor]["LRT"], rel=1e-5)
        # half of the naive p-value: the variance is at the edge of its range
        assert row["Pr(>Chisq)"] == pytest.approx(stored[factor]["p"] / 2, rel=1e-3)


@BOTH
def test_profiles_hold_the_other_factor_at_its_maximum(name: str, fits: dict[str, Fit]) -> None:
    stored, table = reference("crossed", name)["profile"], fits[name].confint(method="profile")
    for row, entry in {"sd_(Intercept)|g": "sd_g", "sd_(Intercept)|h": "sd_h", "x": "x"}.items():
        np.testing.assert_allclose(table.loc[row], stored[entry], rtol=2e-4, atol=2e-5)
    if name == "crossed_gaussian":
        np.testing.assert_allclose(table.loc["sigma"], stored["sigma"], rtol=1e-5)


@BOTH
@pytest.mark.parametrize("kept", ["g", "h"])
def test_a_model_of_one_factor_is_nested_in_that_of_both(
    name: str, kept: str, fits: dict[str, Fit]
) -> None:
    small = made(name, FORMULAS[name].replace(f" + (1 | {'h' if kept == 'g' else 'g'})", ""))
    if name == "crossed_poisson":  # both by the same rule, as the stored ones
        small = made(name, f"c ~ x + (1 | {kept})", likelihood="laplace")
    stored = reference("crossed", name)["ranova"]["h" if kept == "g" else "g"]
    row = fits[name].anova(small).table.iloc[-1]
    assert row["Chisq"] == pytest.approx(stored["LRT"], rel=1e-5)


@pytest.mark.parametrize("factor", ["g", "h"])
def test_deleting_a_level_keeps_the_other_factor(factor: str, fits: dict[str, Fit]) -> None:
    fit = fits["crossed_gaussian"]
    stored = reference("crossed", "crossed_gaussian")["influence"][factor]
    found = fit.influence(group=factor)
    shift = found.filter(like="dfbetas").to_numpy() * fit.std_errors().to_numpy()
    assert found.index.astype(str).to_list() == stored["level"]
    np.testing.assert_allclose(shift, stored["one_step"]["change"], rtol=1e-4, atol=1e-6)


def test_satterthwaite_of_crossed_factors(restricted: Fit) -> None:
    stored = reference("crossed", "crossed_gaussian")["reml"]
    degrees = restricted.coefficients(df="satterthwaite")["df"]
    np.testing.assert_allclose(degrees, list(stored["satterthwaite_df"].values()), rtol=1e-4)
    components = restricted.var_corr()
    for row, entry in enumerate(("g", "h", "sigma")):
        error = components["se_working"].iloc[row]
        assert error == pytest.approx(stored["se_log_sd"][entry], rel=1e-4)


def test_simulated_outcomes_vary_between_the_levels_of_both_factors(fits: dict[str, Fit]) -> None:
    """Var of a level mean around the total mean, over many sets, is what both factors give it."""
    fit, data = fits["crossed_gaussian"], crossed_gaussian()
    drawn = fit.simulate(400, seed=1).to_numpy() - fit.predict(type="marginal").to_numpy()[:, :1]
    sd, sigma = {"g": 1.70379635597779, "h": 0.301831865929323}, 0.922736431445795
    for one, other in (("g", "h"), ("h", "g")):
        level = data[one].to_numpy() == 2
        share = data.loc[level, other].value_counts() / level.sum()
        expected = sd[one] ** 2 + sd[other] ** 2 * (share**2).sum() + sigma**2 / level.sum()
        found = np.mean(drawn[level].mean(0) ** 2)
        assert found == pytest.approx(expected, rel=4 * np.sqrt(2 / 400))


def test_a_bootstrap_of_crossed_factors_keeps_both(fits: dict[str, Fit]) -> None:
    table = fits["crossed_gaussian"].confint(method="bootstrap", nsim=40, seed=3)
    assert isinstance(table, pd.DataFrame)
    low, high = table.loc["sd_(Intercept)|g"]
    assert 0.4 < low < 1.70 < high + 0.6
