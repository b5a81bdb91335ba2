"""The information of REML fits against closed forms of the balanced one-way layout."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import data

from dgmm import Fit, mixed_model


def test_the_balanced_one_way_layout() -> None:
    rng = np.random.default_rng(1)
    n, J = 30, 4
    y = 1.5 * rng.normal(size=(n, 1)) + rng.normal(size=(n, J))
    frame = pd.DataFrame({"id": np.repeat(np.arange(n), J), "y": y.ravel()})
    fit = mixed_model("y ~ 1 + (1 | id)", frame, method="reml", verbose=0)
    within = ((y - y.mean(1, keepdims=True)) ** 2).sum() / (n * (J - 1))
    between = J * y.mean(1).var(ddof=1)
    tau2 = (between - within) / J
    table = fit.var_corr()
    np.testing.assert_allclose(table["vcov"], [tau2, within], rtol=1e-5)
    of_within = 2 * within**2 / (n * (J - 1))
    of_tau2 = (2 * between**2 / (n - 1) + of_within) / J**2
    expected = [np.sqrt(of_tau2) / (2 * tau2), np.sqrt(of_within) / (2 * within)]
    np.testing.assert_allclose(table["se_working"], expected, rtol=1e-4)


def test_intervals_of_a_reml_fit(sleepstudy_reml: Fit, sleepstudy: Fit) -> None:
    bounds = sleepstudy_reml.confint()
    assert bounds.notna().all(axis=None)
    z = (bounds["97.5 %"] - bounds["2.5 %"])[["(Intercept)", "Days"]] / (2 * 1.959964)
    np.testing.assert_allclose(z, sleepstudy_reml.std_errors(), rtol=1e-6)
    # on the log scale nearly the same as after ML
    ours, theirs = sleepstudy_reml.var_corr(), sleepstudy.var_corr()
    np.testing.assert_allclose(ours["se_working"], theirs["se_working"], rtol=0.05)


def test_no_errors_when_none_were_asked_for() -> None:
    formula = "Reaction ~ Days + (Days | Subject)"
    fit = mixed_model(formula, data("sleepstudy"), method="reml", se=None, verbose=0)
    assert fit.var_corr()["se_working"].isna().all()
    with pytest.raises(ValueError, match="se=None"):
        fit.predict(interval="confidence")
