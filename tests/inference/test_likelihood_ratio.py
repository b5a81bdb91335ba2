"""Likelihood-ratio tests: numbers of lme4, closed forms, refusals, size under the null."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import data
from scipy import stats

from dgmm import Fit, mixed_model


@pytest.fixture(scope="module")
def intercepts() -> Fit:
    return mixed_model("Reaction ~ Days + (1 | Subject)", data("sleepstudy"), verbose=0)


@pytest.fixture(scope="module")
def independent() -> Fit:
    return mixed_model("Reaction ~ Days + (Days || Subject)", data("sleepstudy"), verbose=0)


def test_the_numbers_of_lme4(sleepstudy: Fit, intercepts: Fit, independent: Fit) -> None:
    # Bates, Maechler, Bolker and Walker (2015), section 5.2: 0.0639 on 1 df, p 0.8004
    found = sleepstudy.anova(independent).table
    assert found.loc["model 2", "Chisq"] == pytest.approx(0.0639, abs=5e-5)
    assert found.loc["model 2", "Pr(>Chisq)"] == pytest.approx(0.8004, abs=5e-5)
    assert found["AIC"].round(1).to_list() == [1762.0, 1763.9]
    assert found["BIC"].round(1).to_list() == [1778.0, 1783.1]
    # lme4: 42.139 on 2 df; the mixture in place of chi2(2)
    found = intercepts.anova(sleepstudy).table
    assert found.loc["model 2", "Chisq"] == pytest.approx(42.139, abs=5e-4)
    expected = 0.5 * (stats.chi2.sf(42.139, 1) + stats.chi2.sf(42.139, 2))
    assert found.loc["model 2", "Pr(>Chisq)"] == pytest.approx(expected, rel=1e-3)


def test_several_models_are_tested_in_order(
    sleepstudy: Fit, intercepts: Fit, independent: Fit
) -> None:
    found = sleepstudy.anova(intercepts, independent)
    assert found.table["npar"].to_list() == [4, 5, 6]
    assert found.table["null"].to_list() == ["", "0.5 chi2(0) + 0.5 chi2(1)", "chi2(1)"]
    text = str(found)
    assert "BIC counts the 180 observed outcomes" in text
    assert "model 3: Reaction ~ Days + (Days | Subject)" in text
    assert "<table" in found._repr_html_()


def test_a_balanced_one_way_layout_has_a_closed_form() -> None:
    # -2 l = const + n (J - 1) log SSW + n log SSB: the within part cancels
    rng = np.random.default_rng(5)
    n, J = 20, 6
    frame = pd.DataFrame({"id": np.repeat(np.arange(n), J), "x": np.repeat(np.arange(n) % 2, J)})
    y = rng.normal(size=(n, 1)) + 0.6 * (np.arange(n) % 2)[:, None] + rng.normal(size=(n, J))
    frame["y"] = y.ravel()
    small = mixed_model("y ~ 1 + (1 | id)", frame, verbose=0)
    big = mixed_model("y ~ x + (1 | id)", frame, verbose=0)
    means, x = y.mean(1), np.arange(n) % 2
    total = ((means - means.mean()) ** 2).sum()
    within = sum(((means[x == g] - means[x == g].mean()) ** 2).sum() for g in (0, 1))
    found = small.anova(big).table.loc["model 2"]
    assert found["Chisq"] == pytest.approx(n * np.log(total / within), abs=1e-8)


def test_restricted_likelihoods(sleepstudy: Fit, sleepstudy_reml: Fit) -> None:
    frame = data("sleepstudy")
    smaller = mixed_model("Reaction ~ Days + (1 | Subject)", frame, method="reml", verbose=0)
    found = sleepstudy_reml.anova(smaller)
    # lme4, refit = FALSE: -893.2325 and -871.8141
    assert found.table.loc["model 2", "Chisq"] == pytest.approx(2 * (893.2325 - 871.8141), abs=1e-3)
    assert "REML" in found.title
    other = mixed_model("Reaction ~ 1 + (Days | Subject)", frame, method="reml", verbose=0)
    with pytest.raises(ValueError, match="different fixed columns.*method='ml'"):
        other.anova(sleepstudy_reml)
    with pytest.raises(ValueError, match="one fit is by REML and the other is not"):
        smaller.anova(sleepstudy)


def test_networks_are_refused(deep: Fit, sleepstudy: Fit) -> None:
    with pytest.raises(ValueError, match="has a network.*held-out"):
        sleepstudy.anova(deep)


def test_a_difference_within_its_numerical_error_has_no_p_value(sleepstudy: Fit) -> None:
    frame = data("sleepstudy")
    small = mixed_model("Reaction ~ 1 + (Days | Subject)", frame, verbose=0)

    def blurred(fit: Fit, error: float) -> Fit:
        return replace(fit, estimate=replace(fit.estimate, mc_error=error))

    found = blurred(small, 3.0).anova(blurred(sleepstudy, 4.0))  # combined 5, difference 11.8
    assert np.isnan(found.table.loc["model 2", "Pr(>Chisq)"])
    assert "less than 4 times their numerical error (5)" in found.notes[-1]
    found = blurred(small, 0.3).anova(blurred(sleepstudy, 0.4))
    assert found.table.loc["model 2", "Pr(>Chisq)"] < 1e-5


def test_a_larger_model_below_the_smaller_is_named(sleepstudy: Fit, intercepts: Fit) -> None:
    worse = replace(sleepstudy, estimate=replace(sleepstudy.estimate, log_likelihood=-900.0))
    found = intercepts.anova(worse)
    assert np.isnan(found.table.loc["model 2", "Pr(>Chisq)"])
    assert "not at its maximum" in found.notes[-1]


def test_the_bootstrap_agrees_with_the_mixture() -> None:
    rng = np.random.default_rng(11)
    frame = pd.DataFrame({"id": np.repeat(np.arange(25), 5), "t": np.tile(np.arange(5.0), 25)})
    b = rng.normal(size=(25, 2)) * [1.0, 0.13]
    frame["y"] = (b[frame["id"], 0] + b[frame["id"], 1] * frame["t"]) + rng.normal(size=125)
    small = mixed_model("y ~ t + (1 | id)", frame, verbose=0)
    big = mixed_model("y ~ t + (t | id)", frame, verbose=0)
    mixture = small.anova(big).table.loc["model 2", "Pr(>Chisq)"]
    found = small.anova(big, nsim=120, seed=3).table.loc["model 2"]
    assert found["null"] == "bootstrap(120)"
    assert 0.02 < mixture < 0.6
    error = np.sqrt(mixture * (1 - mixture) / 120)
    assert abs(found["Pr(>Chisq)"] - mixture) < 4 * error + 0.01
    one, two = (small.anova(big, nsim=10, seed=3).table.loc["model 2"] for _ in range(2))
    assert one["Pr(>Chisq)"] == two["Pr(>Chisq)"]


def test_generalized_models_are_tested_too(cbpp: Fit) -> None:
    frame = data("cbpp")
    smaller = cbpp.update(". ~ . - period", frame)
    found = smaller.anova(cbpp).table.loc["model 2"]
    assert found["Chisq"] == pytest.approx(2 * (float(cbpp.loglik()) - float(smaller.loglik())))
    assert found["Pr(>Chisq)"] == pytest.approx(stats.chi2.sf(found["Chisq"], 3), rel=1e-10)
    with pytest.raises(ValueError, match="belong to Wald tests of one fit"):
        smaller.anova(cbpp, L={"period2": 1})
    with pytest.raises(TypeError, match="compares fits of mixed_model.*not 3"):
        cbpp.anova(3)  # type: ignore[arg-type]


@pytest.mark.slow
def test_size_of_the_mixture_under_the_null() -> None:
    # no slope varies: the mixture rejects 5 in 100, chi2(2) too few
    rng, rejected, naive, size = np.random.default_rng(2026), 0, 0, 600
    frame = pd.DataFrame({"id": np.repeat(np.arange(60), 6), "t": np.tile(np.arange(6.0), 60)})
    for _ in range(size):
        b = rng.normal(size=60)
        frame["y"] = b[frame["id"]] + 0.3 * frame["t"] + rng.normal(size=360)
        fits = [
            mixed_model(f"y ~ t + ({random} | id)", frame, se=None, verbose=0)
            for random in ("1", "t")
        ]
        found = fits[0].anova(fits[1]).table.loc["model 2"]
        rejected += found["Pr(>Chisq)"] < 0.05
        naive += stats.chi2.sf(found["Chisq"], 2) < 0.05
    error = np.sqrt(0.05 * 0.95 / size)
    assert abs(rejected / size - 0.05) < 3.5 * error
    assert naive < rejected
