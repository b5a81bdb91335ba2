"""Coverage beside a network: the stored study, and a part of it run again."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parent.parent
TABLE = ROOT / "benchmarks" / "coverage_gaussian.csv"


@pytest.fixture(scope="module")
def study() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "benchmarks" / "coverage.py"), run_name="coverage")


@pytest.fixture(scope="module")
def stored() -> pd.DataFrame:
    return pd.read_csv(TABLE, dtype={"inside": str})


def test_the_stored_study_is_within_its_bars(study: dict[str, Any], stored: pd.DataFrame) -> None:
    """93 to 97 % for the coefficient, 92 to 97 % for the curve, give or take its own error."""
    found, size = study["report"](stored), len(stored)
    error = np.sqrt(0.95 * 0.05 / size)
    assert 0.93 - 2 * error < found["coverage of x"] < 0.97 + 2 * error
    shares = np.array([np.mean([int(c) for c in row]) for row in stored["inside"]])
    error = shares.std() / np.sqrt(size)
    assert 0.92 - 2 * error < found["coverage of the band"] < 0.97 + 2 * error
    assert abs(found["bias"]) < 3 * found["empirical SD"] / np.sqrt(size)


@pytest.mark.slow
def test_data_sets_of_the_study_are_fitted_as_stored(
    study: dict[str, Any], stored: pd.DataFrame
) -> None:
    design = study["DESIGNS"]["gaussian"]
    for row in stored.head(10).itertuples():
        again = study["one"](design, int(row.seed))
        assert abs(again["estimate"] - row.estimate) < 0.1 * row.std_error
        assert again["std_error"] == pytest.approx(row.std_error, rel=0.02)
        assert again["edf"] == pytest.approx(row.edf, abs=1.5)
