"""Wald tests of linear hypotheses."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import FORMULAS, data
from scipy import stats

from dgmm import Fit, mixed_model


def test_one_row_is_the_line_of_the_wald_table(any_fit: Fit) -> None:
    for name, line in any_fit.coefficients().iterrows():
        for L in ({name: 1.0}, [name], np.eye(any_fit.fixef().size)[[0]]):
            found = any_fit.anova(L=L).table.iloc[0]
            if not isinstance(L, np.ndarray):
                np.testing.assert_allclose(found, line, rtol=1e-10)


def test_a_joint_test_is_the_quadratic_form(cbpp: Fit) -> None:
    names = ["period2", "period3", "period4"]
    b, V = cbpp.fixef()[names].to_numpy(), cbpp.vcov().loc[names, names].to_numpy()
    found = cbpp.anova(L=names).table.iloc[0]
    assert found["Chisq"] == pytest.approx(b @ np.linalg.solve(V, b), rel=1e-10)
    assert found["Pr(>Chisq)"] == pytest.approx(stats.chi2.sf(found["Chisq"], 3), rel=1e-10)
    assert cbpp.anova().table.loc["period"].to_numpy() == pytest.approx(found.to_numpy())


def test_a_nonsingular_transformation_of_the_rows_changes_nothing(orthodont: Fit) -> None:
    rng = np.random.default_rng(0)
    L = rng.normal(size=(2, 4))
    one = orthodont.anova(L=L).table.iloc[0]
    two = orthodont.anova(L=np.array([[2.0, 1.0], [1e3, -5.0]]) @ L).table.iloc[0]
    np.testing.assert_allclose(one, two, rtol=1e-8)


def test_rows_that_follow_from_others_do_not_count(orthodont: Fit) -> None:
    L = np.eye(4)[[1, 3, 3]]
    L[2] = L[0] + L[1]
    found = orthodont.anova(L=L)
    expected = orthodont.anova(L=["age", "age:SexFemale"]).table.iloc[0]
    np.testing.assert_allclose(found.table.iloc[0], expected, rtol=1e-8)
    assert "3 rows of rank 2: 1 follow" in found.notes[0]


def test_t_and_f_tests(sleepstudy_reml: Fit) -> None:
    # lmerTest: Days F 45.853 on 1 and 17 df
    found = sleepstudy_reml.anova(df="satterthwaite").table.loc["Days"]
    assert found["F value"] == pytest.approx(45.853, abs=5e-4)
    assert found["NumDF"] == 1
    assert found["DenDF"] == pytest.approx(17.0, abs=1e-4)
    single = sleepstudy_reml.anova(L={"Days": 1}, df="satterthwaite").table.iloc[0]
    assert single["t value"] ** 2 == pytest.approx(found["F value"], rel=1e-10)
    assert single["Pr(>|t|)"] == pytest.approx(found["Pr(>F)"], rel=1e-6)


def test_the_hypothesis_is_written_out(orthodont: Fit) -> None:
    text = str(orthodont.anova(L={"age": 1, "age:SexFemale": -0.5}))
    assert "age - 0.5 age:SexFemale = 0" in text
    assert "effect where the other variables are zero" in str(orthodont.anova())


def test_impossible_hypotheses_are_named(sleepstudy: Fit) -> None:
    with pytest.raises(ValueError, match="no coefficient 'days'.*Days"):
        sleepstudy.anova(L={"days": 1})
    with pytest.raises(ValueError, match="L has 3 columns; the fit has 2"):
        sleepstudy.anova(L=np.eye(3))
    with pytest.raises(ValueError, match="not zero"):
        sleepstudy.anova(L=np.zeros((1, 2)))
    with pytest.raises(ValueError, match="'kenward-roger' or None \\(z tests\\), not 'kr'"):
        sleepstudy.anova(df="kr")
    with pytest.raises(ValueError, match="fitted by method='reml'.*method='ml'"):
        sleepstudy.anova(df="kenward-roger")
    bare = mixed_model(FORMULAS["sleepstudy"], data("sleepstudy"), se=None, verbose=0)
    with pytest.raises(ValueError, match="se=None"):
        bare.anova()
