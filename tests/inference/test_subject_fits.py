"""lm_list against least squares and statsmodels, subject by subject."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from conftest import data

from dgmm import FormulaError, lm_list


def test_sleepstudy_as_lmlist() -> None:
    # lme4: coef(lmList(Reaction ~ Days | Subject, sleepstudy)); residual 25.59182 on 144 df
    found = lm_list("Reaction ~ Days | Subject", data("sleepstudy"))
    np.testing.assert_allclose(found.coefficients.loc["308"], [244.1927, 21.76470], atol=5e-5)
    np.testing.assert_allclose(found.coefficients.loc["372"], [267.0448, 11.29807], atol=5e-5)
    assert found.sigma == pytest.approx(25.59182, abs=5e-6)
    assert found.df_residual == 144
    assert found.coefficients.index.name == "Subject"
    assert "18 separate fits" in str(found)


def test_least_squares_with_weights_and_offset() -> None:
    frame = data("sleepstudy").assign(
        w=np.random.default_rng(0).uniform(0.5, 2, 180), o=np.arange(180.0)
    )
    text = "Reaction ~ Days + (1 | Subject)"  # the fixed part of a mixed formula
    found = lm_list(text, frame, weights="w", offset="o")
    one = frame[frame["Subject"].astype(str) == "310"]
    root = np.sqrt(one["w"])
    X = np.column_stack([np.ones(10), one["Days"]])
    beta = np.linalg.lstsq(X * root.to_numpy()[:, None], (one["Reaction"] - one["o"]) * root)[0]
    np.testing.assert_allclose(found.coefficients.loc["310"], beta, rtol=1e-8)
    V = np.linalg.inv(X.T @ (X * one["w"].to_numpy()[:, None]))
    np.testing.assert_allclose(found.std_errors.loc["310"], found.sigma * np.sqrt(np.diag(V)))


def test_counts_as_glm() -> None:
    frame = data("epil")
    found = lm_list("y ~ period | subject", frame, family="poisson")
    for label in found.coefficients.index[:5]:
        one = frame[frame["subject"].astype(str) == str(label)]
        X = sm.add_constant(one["period"].astype(float).to_numpy())
        peer = sm.GLM(one["y"].to_numpy(), X, sm.families.Poisson()).fit(tol=1e-12)
        np.testing.assert_allclose(found.coefficients.loc[label], peer.params, atol=1e-5)
        np.testing.assert_allclose(found.std_errors.loc[label], peer.bse, rtol=1e-4)


def test_subjects_without_enough_data_are_missing_and_counted() -> None:
    frame = pd.DataFrame(
        {
            "id": [1, 1, 1, 2, 3, 3, 3],
            "t": [0.0, 1.0, 2.0, 0.0, 1.0, 1.0, 1.0],
            "y": [1.0, 2.0, 4.0, 3.0, 2.0, 5.0, 1.0],
        }
    )
    found = lm_list("y ~ t | id", frame)
    assert found.coefficients.notna().all(axis=1).to_list() == [True, False, False]
    assert "2 of 3 levels of `id`" in found.notes[0]
    assert found.counts.to_list() == [3, 1, 3]


def test_formulas() -> None:
    frame = data("sleepstudy")
    with pytest.raises(FormulaError, match="one bar"):
        lm_list("Reaction ~ Days | Subject | Days", frame)
    with pytest.raises(ValueError, match="leave out dnn"):
        lm_list("Reaction ~ dnn(Days) | Subject", frame)
