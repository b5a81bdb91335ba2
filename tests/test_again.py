"""The same model fitted again."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import data

from dgmm import Fit, mixed_model
from dgmm.estimate.again import refit_without


@pytest.mark.parametrize("name", ["sleepstudy", "sleepstudy_reml", "cbpp", "epil"])
def test_its_own_outcome_gives_the_same_fit(name: str, request: pytest.FixtureRequest) -> None:
    fit: Fit = request.getfixturevalue(name)
    column = {"cbpp": "incidence", "epil": "y"}.get(name, "Reaction")
    again = fit.refit(data(name.removesuffix("_reml"))[column])
    assert float(again.loglik()) == pytest.approx(float(fit.loglik()), abs=1e-5)
    assert ((again.fixef() - fit.fixef()) / fit.std_errors()).abs().max() < 0.01
    assert again.estimate.method == fit.estimate.method


def test_another_outcome_is_a_fit_to_another_column() -> None:
    frame = data("sleepstudy").sample(frac=1, random_state=2)
    frame["other"] = frame["Reaction"] ** 0.5
    fit = mixed_model("Reaction ~ Days + (1 | Subject)", frame, verbose=0)
    direct = mixed_model("other ~ Days + (1 | Subject)", frame, verbose=0)
    again = fit.refit(frame["other"])
    assert float(again.loglik()) == pytest.approx(float(direct.loglik()), abs=1e-6)
    pd.testing.assert_series_equal(again.fitted(), direct.fitted(), rtol=1e-6)
    np.testing.assert_allclose(again.std_errors(), direct.std_errors(), rtol=1e-4)


def test_columns_left_out(sleepstudy: Fit) -> None:
    smaller = refit_without(sleepstudy.estimate, sleepstudy.request, [1])
    direct = mixed_model("Reaction ~ 1 + (Days | Subject)", data("sleepstudy"), verbose=0)
    assert smaller.log_likelihood == pytest.approx(float(direct.loglik()), abs=1e-7)
    assert smaller.model.names == ("(Intercept)",)


def test_refusals(sleepstudy: Fit, cbpp: Fit, deep: Fit) -> None:
    with pytest.raises(ValueError, match=r"180 rows.*\(3,\)"):
        sleepstudy.refit([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="successes"):
        cbpp.refit(np.full(56, 1000.0))
    with pytest.raises(ValueError, match=r"dnn\(\)"):
        deep.refit(data("sleepstudy")["Reaction"])
