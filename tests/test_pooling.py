"""Rubin's rules against the published formulas, worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dgmm import pool


def test_a_worked_example() -> None:
    """m = 5, one parameter: every number of the table from its formula."""
    Q, se = np.array([1.0, 1.4, 0.8, 1.1, 1.2]), np.array([0.5, 0.4, 0.6, 0.5, 0.5])
    row = pool(Q, se, df_complete=50).loc[0]
    U, B = (se**2).mean(), Q.var(ddof=1)
    T = U + 1.2 * B
    share, r = 1.2 * B / T, 1.2 * B / U
    old, observed = 4 / share**2, 51 / 53 * 50 * (1 - share)
    df = old * observed / (old + observed)
    assert row["estimate"] == pytest.approx(1.1, abs=1e-14)
    assert row["within"] == pytest.approx(U, abs=1e-14)
    assert row["between"] == pytest.approx(B, abs=1e-14)
    assert row["std_error"] == pytest.approx(np.sqrt(T), abs=1e-14)
    assert row["df"] == pytest.approx(df, rel=1e-12)
    assert row["fmi"] == pytest.approx((r + 2 / (df + 3)) / (r + 1), rel=1e-12)
    half = stats.t.ppf(0.975, df) * np.sqrt(T)
    assert row["upper"] - row["estimate"] == pytest.approx(half, rel=1e-9)


def test_equal_estimates_have_no_missing_information() -> None:
    table = pool([{"a": 1.0, "b": 2.0}] * 3, [{"a": 0.1, "b": 0.2}] * 3)
    assert list(table.index) == ["a", "b"]
    assert np.allclose(table["std_error"], [0.1, 0.2], atol=1e-15)
    assert (table["fmi"] == 0).all()
    assert np.allclose(
        table["upper"] - table["estimate"], 1.959964 * np.array([0.1, 0.2]), rtol=1e-6
    )
    assert pool([1.0, 1.0], [0.5, 0.5], df_complete=20).loc[0, "df"] == pytest.approx(21 / 23 * 20)


def test_coverage_of_the_interval_for_a_normal_mean() -> None:
    """30% of 40 values missing, proper imputations: 95% intervals cover (2,000 replicates)."""
    rng = np.random.default_rng(1)
    hits, n, seen, m = 0, 40, 28, 10
    for _ in range(2000):
        y = rng.normal(size=seen)
        s2 = (seen - 1) * y.var(ddof=1) / rng.chisquare(seen - 1, m)
        mu = y.mean() + rng.normal(size=m) * np.sqrt(s2 / seen)
        new = mu[:, None] + rng.normal(size=(m, n - seen)) * np.sqrt(s2)[:, None]
        full = np.concatenate([np.tile(y, (m, 1)), new], axis=1)
        row = pool(full.mean(1), full.std(1, ddof=1) / np.sqrt(n), df_complete=n - 1).loc[0]
        hits += row["lower"] < 0 < row["upper"]
    assert abs(hits / 2000 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 2000)


@pytest.mark.parametrize(
    ("estimates", "errors", "message"),
    [
        ([1.0], [0.5], "at least two"),
        ([1.0, 2.0], [0.5], "same parameters"),
        ([pd.Series({"a": 1.0}), pd.Series({"b": 1.0})], [1.0, 1.0], "same parameters"),
        ([[1.0, 2.0], [1.0]], [1.0, 1.0], "different lengths"),
    ],
)
def test_errors_say_what_is_wrong(estimates: list, errors: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pool(estimates, errors)
