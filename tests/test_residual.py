"""Outcomes without a residual end in a sentence; outcomes with the smallest one do not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from toys import frame

from dgmm import mixed_model


def linear(rows: int = 20) -> pd.DataFrame:
    data = frame(rows, 5, seed=8)
    site = np.tile(np.arange(4), 5 * rows // 4)
    eta = 2 + 3 * data["t"] + np.sin(data["id"])
    return data.assign(site=site, fixed=2 + 3 * data["t"], both=eta, rate=np.exp(eta))


@pytest.mark.parametrize(
    ("formula", "family"),
    [
        ("fixed ~ t + (1 | id)", "gaussian"),
        ("both ~ t + (1 | id)", "gaussian"),
        ("both ~ t + (1 | id) + (1 | site)", "gaussian"),
        ("both ~ t + (t | id)", "student_t"),
        ("fixed ~ dnn(t, hidden=(3,)) + (1 | id)", "gaussian"),
        ("rate ~ t + (1 | id)", "gamma"),
        ("rate ~ t + (1 | id)", "lognormal"),
        ("rate ~ t + (1 | id)", "hurdle_gamma"),
    ],
)
def test_an_exactly_linear_outcome_is_refused(formula: str, family: str) -> None:
    outcome = formula.split()[0]
    with pytest.raises(ValueError, match=f"`{outcome}` .*no residual variance is left"):
        mixed_model(formula, linear(), family=family, verbose=0)


def test_of_many_rows_only_the_last_may_leave_a_residual() -> None:
    data = linear(400)
    with pytest.raises(ValueError, match="no residual variance"):
        mixed_model("both ~ t + (1 | id)", data, verbose=0)
    data.loc[data.index[-40:], "both"] += np.random.default_rng(1).normal(size=40)
    assert mixed_model("both ~ t + (1 | id)", data, se=None, verbose=0).sigma() > 0.05


def test_a_small_residual_is_fitted() -> None:
    data = linear()
    noise = np.random.default_rng(2).normal(size=len(data))
    one = mixed_model("y ~ t + (1 | id)", data.assign(y=data["both"] + 1e-4 * noise), verbose=0)
    assert one.sigma() == pytest.approx(1e-4, rel=0.3)


@pytest.mark.parametrize("unit", [1e-200, 1e200])
def test_outcomes_whose_squares_are_no_numbers_are_refused(unit: float) -> None:
    data = linear().assign(y=lambda data: unit * data["y"])
    with pytest.raises(ValueError, match=r"`y` is as large as .*e[+-]\d{3}, .* change its unit"):
        mixed_model("y ~ t + (1 | id)", data, verbose=0)
    assert mixed_model("y ~ t + (1 | id)", data.assign(y=data["y"] / unit**0.5), se=None).nobs()


@pytest.mark.parametrize("family", ["gaussian", "student_t"])
def test_means_of_one_sign_need_such_outcomes(family: str) -> None:
    with pytest.raises(ValueError, match="link='inverse' has means of one sign.*row"):
        mixed_model("y ~ t + (1 | id)", frame(), family=family, link="inverse", verbose=0)
    below = frame().assign(y=lambda data: -np.exp(data["y"]))
    with pytest.raises(ValueError, match="link='log' has positive means"):
        mixed_model("y ~ t + (1 | id)", below, family=family, link="log", verbose=0)
