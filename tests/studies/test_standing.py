"""Shares of the gap between the best LMM and the oracle."""

from __future__ import annotations

import pandas as pd
import pytest

from dgmm.studies import standing

TABLE = pd.DataFrame(
    {
        "loglik": [-22.0, -21.0, -20.5, -20.0],
        "rmse_observed": [0.25, 0.30, 0.21, 0.20],
        "rmse_future": [1.3, 1.2, 1.05, 1.0],
        "rmse_dropped": [float("nan")] * 4,
        "coverage_future": [0.90, 0.91, 0.94, 0.95],
    },
    index=["lmm4", "lmm7", "deep", "oracle"],
)


def test_the_best_lmm_is_zero_and_the_oracle_one() -> None:
    found = standing(TABLE)
    assert found["share_loglik"].to_dict() == {"lmm4": -1, "lmm7": 0, "deep": 0.5, "oracle": 1}
    # measure by measure: here ns(4) is the better one
    expected = {"lmm4": 0, "lmm7": -1, "deep": 0.8, "oracle": 1}
    assert found["share_rmse_observed"].to_dict() == pytest.approx(expected)
    assert found.loc["deep", "ratio_rmse_future"] == pytest.approx(1.05)
    assert found.loc["deep", "excess_coverage_future"] == pytest.approx(-0.01)
    assert "ratio_rmse_dropped" not in found  # study I drops no rows


def test_what_it_needs() -> None:
    with pytest.raises(
        ValueError, match="'oracle' and one of lmm4, lmm7, lmm_rich; it has lmm4, deep"
    ):
        standing(TABLE.loc[["lmm4", "deep"]])
    with pytest.raises(ValueError, match="needs the rows"):
        standing(TABLE.loc[["deep", "oracle"]])
