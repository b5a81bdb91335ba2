"""z, p, intervals against scipy and numbers of R."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dgmm.inference.wald import intervals, stars, wald_table
from dgmm.runtime.result_table import format_p


def test_wald_table_has_the_columns_of_r() -> None:
    index = ["(Intercept)", "Days"]
    table = wald_table(
        pd.Series([251.405, 10.467], index=index), pd.Series([6.632, 1.502], index=index)
    )
    assert list(table.columns) == ["Estimate", "Std. Error", "z value", "Pr(>|z|)"]
    assert list(table.index) == index
    z = np.array([251.405 / 6.632, 10.467 / 1.502])
    np.testing.assert_allclose(table["z value"], z, rtol=1e-14)
    np.testing.assert_allclose(table["Pr(>|z|)"], 2 * stats.norm.sf(z), rtol=1e-12)


def test_p_values_are_two_sided_and_keep_their_digits_in_the_tail() -> None:
    estimate, error = pd.Series([1.959963984540054, -1.959963984540054, 20.0]), pd.Series([1.0] * 3)
    p = wald_table(estimate, error)["Pr(>|z|)"].to_numpy()
    np.testing.assert_allclose(p[:2], 0.05, rtol=1e-12)
    np.testing.assert_allclose(p[2], 5.507248237212e-89, rtol=1e-9)


def test_a_missing_standard_error_gives_a_missing_p() -> None:
    table = wald_table(pd.Series([1.0]), pd.Series([np.nan]))
    assert np.isnan(table["Pr(>|z|)"].iloc[0])


def test_intervals_at_two_levels() -> None:
    wide = intervals(np.array([1.0, -2.0]), np.array([0.5, 2.0]), 0.95)
    half = 1.959963984540054 * np.array([0.5, 2.0])
    expected = np.array([[1 - half[0], 1 + half[0]], [-2 - half[1], -2 + half[1]]])
    np.testing.assert_allclose(wide, expected, rtol=1e-12)
    narrow = intervals(np.array([0.0]), np.array([1.0]), 0.5)
    np.testing.assert_allclose(narrow, [[-0.6744897501960817, 0.6744897501960817]], rtol=1e-12)


@pytest.mark.parametrize("level", [0.0, 1.0, 95, -0.1])
def test_a_level_that_is_no_probability_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match="level is a probability between 0 and 1"):
        intervals(np.zeros(1), np.ones(1), level)


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (1e-17, "<2e-16"),
        (3.2e-6, "3.20e-06"),
        (0.04567, "0.0457"),
        (1.0, "1.0000"),
        (np.nan, "NA"),
    ],
)
def test_format_p(p: float, text: str) -> None:
    assert format_p(p) == text


@pytest.mark.parametrize(
    ("p", "mark"),
    [(0.0005, "***"), (0.005, "**"), (0.03, "*"), (0.07, "."), (0.2, ""), (np.nan, "")],
)
def test_stars(p: float, mark: str) -> None:
    assert stars(p) == mark
