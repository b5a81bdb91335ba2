"""Degrees of freedom: numbers of lmerTest, exact cases, invariance."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import data, no_slopes

from dgmm import Fit, mixed_model
from dgmm.inference.satterthwaite import Satterthwaite, satterthwaite


def test_sleepstudy_as_lmertest(sleepstudy_reml: Fit) -> None:
    # lmerTest, summary(lmer(Reaction ~ Days + (Days | Subject))): df 17, t 36.838 and 6.771
    table = sleepstudy_reml.coefficients(df="satterthwaite")
    np.testing.assert_allclose(table["df"], [17.0, 17.0], atol=1e-4)
    np.testing.assert_allclose(table["t value"], [36.838, 6.771], atol=6e-4)
    np.testing.assert_allclose(table["Pr(>|t|)"]["Days"], 3.26e-06, rtol=2e-3)
    text = str(sleepstudy_reml.summary(df="satterthwaite"))
    assert "df t value Pr(>|t|)" in text
    assert "Satterthwaite" in text


def test_exact_degrees_of_freedom_in_balanced_layouts() -> None:
    frame = data("orthodont")
    slopes = mixed_model("distance ~ age * Sex + (age | Subject)", frame, method="reml", verbose=0)
    # two groups of subjects, each subject with its own line: 27 - 2
    np.testing.assert_allclose(slopes.coefficients(df="satterthwaite")["df"], 25.0, atol=1e-3)
    levels = mixed_model("distance ~ age * Sex + (1 | Subject)", frame, method="reml", verbose=0)
    found = levels.coefficients(df="satterthwaite")["df"]
    # within subjects 108 - 27 - 2 = 79; lmerTest prints 103.99 for the intercept
    np.testing.assert_allclose(found[["age", "age:SexFemale"]], 79.0, atol=1e-3)
    assert found["(Intercept)"] == pytest.approx(103.99, abs=5e-3)


def test_maximum_likelihood_counts_all_subjects(sleepstudy: Fit) -> None:
    table = sleepstudy.coefficients(df="satterthwaite")
    np.testing.assert_allclose(table["df"], 18.0, atol=1e-3)
    np.testing.assert_allclose(table["Std. Error"], sleepstudy.std_errors(kind="gls"))


def test_the_moments_against_finite_differences(pbcseq: Fit) -> None:
    found = satterthwaite(pbcseq.estimate)
    np.testing.assert_allclose(found.covariance, pbcseq.vcov(kind="gls"), rtol=1e-8)
    assert np.linalg.eigvalsh(found.uncertainty)[0] > 0
    # the uncertainty of log sigma is that of the observed information
    table = pbcseq.var_corr()
    known = table.loc[table["group"] == "Residual", "se_working"].iloc[0]
    # the latter has beta beside it, which REML-type blocks ignore
    assert np.sqrt(found.uncertainty[-1, -1]) == pytest.approx(known, rel=0.02)


def test_several_rows_by_fai_and_cornelius() -> None:
    V, slopes = np.diag([1.0, 1.0]), np.zeros((2, 2, 2))
    slopes[0, 0, 0], slopes[1, 1, 1] = 1.0, 1.0
    # df_j = 2 / u_j: 8 and 4
    moments = Satterthwaite(np.diag([1.0, 1.0 + 1e-9]) * V, slopes, np.diag([0.25, 0.5]))
    assert moments.df(np.array([1.0, 0.0])) == pytest.approx(8.0)
    assert moments.df(np.array([0.0, 1.0])) == pytest.approx(4.0)
    expected = 8 / 6 + 4 / 2
    assert moments.joint(np.eye(2)).df == pytest.approx(2 * expected / (expected - 2), rel=1e-5)


def test_a_singular_fit_has_degrees_of_freedom() -> None:
    fit = mixed_model("y ~ t + (t | id)", no_slopes(), method="reml", verbose=0)
    # as if the slopes were not in the model: 60 - 12 - 1
    assert fit.coefficients(df="satterthwaite")["df"]["t"] == pytest.approx(47.0, abs=1e-3)


def test_other_fits_are_refused(cbpp: Fit, deep: Fit) -> None:
    for fit in (cbpp, deep):
        with pytest.raises(ValueError, match="Satterthwaite.*normal distribution"):
            fit.summary(df="satterthwaite")
