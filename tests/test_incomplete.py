"""Rows with gaps are counted by column, in every place that speaks of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import dgmm
from dgmm.design.incomplete import complete_rows

WORDS = "12 of 60 rows have missing values and are left out: 7 for `age`, 6 for `x`"


def frame() -> pd.DataFrame:
    """Fifteen subjects, seven gaps in age and six in x, one of them in both."""
    rng, subject = np.random.default_rng(2), np.repeat(np.arange(15), 4)
    data = pd.DataFrame({"id": subject, "age": rng.normal(size=60), "x": rng.normal(size=60)})
    data["y"] = rng.normal(size=15)[subject] + rng.normal(size=60)
    data.loc[:6, "age"] = np.nan
    data.loc[6:11, "x"] = np.nan
    return data


def test_counts_by_column_reach_the_warning_the_fit_its_file_and_its_summary(
    tmp_path: Path,
) -> None:
    with pytest.warns(UserWarning, match=WORDS):
        fit = dgmm.mixed_model("y ~ age + x + (1 | id)", frame())
    fit.save(tmp_path / "fit")
    for one in (fit, dgmm.load(tmp_path / "fit")):
        assert str(one.memory.left_out) == WORDS
        assert one.memory.left_out.columns == {"age": 7, "x": 6}
        assert one.nobs() == 60 - one.memory.left_out.rows == 48
        text = " ".join(str(one.summary()).split())
        assert "Number of obs: 48, 12 rows left out; groups: id, 12" in text
        assert WORDS in text
    with pytest.raises(ValueError, match=r"12 of 60 rows have missing values \(7 in `age`, 6 in"):
        dgmm.mixed_model("y ~ age + x + (1 | id)", frame(), missing_covariates="error")


def test_gaps_in_weights_offsets_and_what_they_are_made_of_count() -> None:
    data = frame().drop(columns=["age", "x"]).assign(w=1.0, exposure=2.0)
    data.loc[3, "w"], data.loc[[3, 9], "exposure"] = np.nan, np.nan
    offset = np.where(np.arange(60) == 20, np.nan, 0.5)
    with pytest.warns(UserWarning, match="3 of 60 .*: 2 for `exposure`, 1 for `w`, 1 for `offset`"):
        fit = dgmm.mixed_model(
            "y ~ offset(log(exposure)) + (1 | id)", data, weights="w", offset=offset, se=None
        )
    assert fit.nobs() == 57


def test_complete_rows() -> None:
    some = {"a": np.array([True, False, False]), "b": np.array([False, False, False])}
    rows, left_out = complete_rows(some, 3, strict=False)
    assert rows.tolist() == [1, 2]
    assert (left_out.rows, left_out.of, left_out.columns) == (1, 3, {"a": 1})
    rows, left_out = complete_rows({"b": some["b"]}, 3, strict=True)
    assert rows.tolist() == [0, 1, 2]
    assert str(left_out) == "none of 3 rows has missing values"
    with pytest.raises(ValueError, match=r"no complete row is left: all 3 rows .*\(3 in `a`\)"):
        complete_rows({"a": np.ones(3, dtype=bool)}, 3, strict=False)
