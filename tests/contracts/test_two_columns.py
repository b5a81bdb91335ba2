"""cs() of two columns is the free covariance: through every door of a fit the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from toys import occasions_frame

import dgmm

FORMULAS = ("y ~ x + cs(1 + t | id)", "y ~ x + (1 + t | id)")
DATA = occasions_frame()
NEW = DATA.head(3).assign(id="new")

DOORS: dict[str, Callable[[dgmm.Fit], Any]] = {
    "fixed effects": lambda fit: fit.coefficients(),
    "variances": lambda fit: fit.var_corr()[["sdcor"]],
    "sandwich": lambda fit: fit.vcov(kind="sandwich"),
    "gls": lambda fit: fit.vcov(kind="gls"),
    "random effects": lambda fit: fit.ranef(cond_var=True),
    "coefficients": lambda fit: fit.coef(),
    "fitted": lambda fit: fit.fitted(),
    "residuals": lambda fit: fit.residuals(type="pearson"),
    "subjects": lambda fit: fit.predict(DATA, interval="confidence"),
    "outcomes": lambda fit: fit.predict(DATA.head(9), interval="prediction", seed=1),
    "population": lambda fit: fit.predict(NEW, type="marginal", interval="confidence"),
    "history": lambda fit: fit.predict(NEW, history=NEW.head(2)),
    "scores": lambda fit: fit.log_score(DATA)[["log_score"]],
    "curves": lambda fit: fit.effects("x", grid=3),
    "slopes": lambda fit: fit.slopes("x"),
    "shares": lambda fit: fit.icc(),
    "explained": lambda fit: fit.r2(),
    "profile over time": lambda fit: fit.random_profile([0, 3]).table,
    "influence": lambda fit: fit.influence(),
    "tests": lambda fit: fit.drop1().table.iloc[1:, 1:],
    "without a column": lambda fit: fit.update(". ~ . - x", data=DATA).fixef(),
}


@cache
def fits(**options: Any) -> tuple[dgmm.Fit, ...]:
    return tuple(dgmm.mixed_model(one, DATA, verbose=0, **options) for one in FORMULAS)


@pytest.mark.parametrize("door", DOORS)
def test_a_door_shows_the_numbers_of_the_free_covariance(door: str) -> None:
    mine, theirs = (np.asarray(DOORS[door](fit), dtype=float) for fit in fits())
    assert mine.shape == theirs.shape
    np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5 * np.nanmax(np.abs(theirs)))


@pytest.mark.parametrize("se", ["sandwich", "bootstrap"])
def test_other_standard_errors_are_those_of_the_free_covariance(se: str) -> None:
    mine, theirs = (
        dgmm.mixed_model(one, DATA, se=se, seed=1, control={"resamples": 4}, verbose=0)
        for one in FORMULAS
    )
    np.testing.assert_allclose(mine.std_errors(), theirs.std_errors(), rtol=1e-3)


def test_the_variational_route_ends_where_that_of_the_free_covariance_does() -> None:
    mine, theirs = (
        dgmm.mixed_model(one, DATA, method="vae", seed=1, control={"epochs": 20}, verbose=0)
        for one in FORMULAS
    )
    error = 4 * (mine.loglik().mc_error + theirs.loglik().mc_error)
    assert abs(mine.loglik().value - theirs.loglik().value) < error
    np.testing.assert_allclose(mine.fixef(), theirs.fixef(), atol=0.05 * theirs.std_errors().min())
