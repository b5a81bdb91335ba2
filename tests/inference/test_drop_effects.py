"""ranova: numbers of lmerTest, closed forms, refits by formula."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from conftest import data
from scipy import stats

from dgmm import Fit, mixed_model


def test_sleepstudy_as_lmertest(sleepstudy_reml: Fit) -> None:
    # lmerTest::ranova: logLik -871.81 and -893.23, AIC 1755.6 and 1794.5, LRT 42.837
    table = sleepstudy_reml.ranova().table
    assert list(table.index) == ["<none>", "Days | Subject"]
    np.testing.assert_allclose(table["AIC"], [1755.6, 1794.5], atol=0.05)
    assert table.loc["Days | Subject", "LRT"] == pytest.approx(42.837, abs=5e-4)
    assert table.loc["Days | Subject", "null"] == "0.5 chi2(1) + 0.5 chi2(2)"


def test_deletions_are_refits_by_formula(sleepstudy: Fit) -> None:
    small = mixed_model("Reaction ~ Days + (1 | Subject)", data("sleepstudy"), verbose=0)
    expected = small.anova(sleepstudy).table.loc["model 2"]
    found = sleepstudy.ranova().table.loc["Days | Subject"]
    assert found["LRT"] == pytest.approx(expected["Chisq"], abs=1e-6)
    assert found["Pr(>Chisq)"] == pytest.approx(expected["Pr(>Chisq)"], rel=1e-4)
    two = mixed_model("Reaction ~ Days + (Days || Subject)", data("sleepstudy"), verbose=0)
    expected = small.anova(two).table.loc["model 2"]
    found = two.ranova().table.loc["Days | Subject"]
    assert found["LRT"] == pytest.approx(expected["Chisq"], abs=1e-6)
    assert found["null"] == "0.5 chi2(0) + 0.5 chi2(1)"


def test_independent_observations_are_least_squares() -> None:
    frame = data("sleepstudy")
    fit = mixed_model("Reaction ~ Days + (1 | Subject)", frame, verbose=0)
    peer = sm.OLS(frame["Reaction"], sm.add_constant(frame["Days"])).fit()
    found = fit.ranova().table.loc["(Intercept) | Subject"]
    assert found["logLik"] == pytest.approx(peer.llf, abs=1e-8)
    assert found["Pr(>Chisq)"] == pytest.approx(0.5 * stats.chi2.sf(found["LRT"], 1), rel=1e-10)
    assert found["npar"] == 3


def test_independent_counts_are_a_glm(cbpp: Fit, epil: Fit) -> None:
    frame = data("cbpp")
    X = pd.get_dummies(frame["period"], drop_first=True, dtype=float).to_numpy()
    y = np.column_stack([frame["incidence"], frame["size"] - frame["incidence"]])
    peer = sm.GLM(y, sm.add_constant(X), sm.families.Binomial()).fit()
    assert cbpp.estimate.likelihood.independence(cbpp.estimate.theta) == pytest.approx(
        peer.llf, abs=1e-5
    )
    table = epil.ranova().table
    assert table.loc["(Intercept) | subject", "LRT"] > 100


def test_networks_are_refused(deep: Fit, cbpp_vae: Fit) -> None:
    for fit in (deep, cbpp_vae):
        with pytest.raises(ValueError, match="method='ml' or 'reml'"):
            fit.ranova()
