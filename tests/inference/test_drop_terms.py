"""drop1: numbers of lme4, refits by formula, what may be dropped."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import data

from dgmm import Fit
from dgmm.inference.drop_terms import droppable


def test_sleepstudy_as_lme4(sleepstudy: Fit) -> None:
    # example(drop1.merMod): AIC 1763.9 and 1785.5, LRT 23.537, p 1.226e-06
    table = sleepstudy.drop1().table
    np.testing.assert_allclose(table["AIC"], [1763.9, 1785.5], atol=0.05)
    assert table.loc["Days", "LRT"] == pytest.approx(23.537, abs=5e-4)
    assert table.loc["Days", "Pr(>Chisq)"] == pytest.approx(1.226e-06, rel=1e-3)


def test_deletions_are_refits_by_formula(cbpp: Fit, orthodont: Fit) -> None:
    for fit, name, term in ((cbpp, "cbpp", "period"), (orthodont, "orthodont", "age:Sex")):
        smaller = fit.update(f". ~ . - {term}", data(name))
        found = fit.drop1().table
        assert found.loc[term, "AIC"] == pytest.approx(smaller.aic(), abs=1e-4)
        expected = smaller.anova(fit).table.loc["model 2"]
        assert found.loc[term, "LRT"] == pytest.approx(expected["Chisq"], abs=1e-4)
        assert found.loc[term, "npar"] == expected["Df"]


def test_a_term_within_an_interaction_stays(orthodont: Fit) -> None:
    assert list(orthodont.drop1().table.index) == ["<none>", "age:Sex"]
    assert droppable(("(Intercept)", "a", "b", "b", "a:b", "c")) == ["a:b", "c"]


def test_columns_know_their_term(contraception: Fit) -> None:
    assert contraception.memory.terms.count("livch") == 3
    assert contraception.memory.terms[0] == "(Intercept)"
    assert len(contraception.memory.terms) == contraception.fixef().size


def test_refusals(sleepstudy_reml: Fit, deep: Fit) -> None:
    with pytest.raises(ValueError, match="method='ml'"):
        sleepstudy_reml.drop1()
    with pytest.raises(ValueError, match=r"without dnn\(\)"):
        deep.drop1()
