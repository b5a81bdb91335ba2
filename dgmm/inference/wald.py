"""z values, p values and intervals from estimates and standard errors."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import special

from dgmm.runtime.result_table import ResultTable

__all__ = ["intervals", "stars", "wald_table"]


def wald_table(estimate: pd.Series, std_error: pd.Series) -> pd.DataFrame:
    """Estimate, Std. Error, z value, Pr(>|z|): the two-sided Wald test of each coefficient."""
    z = estimate / std_error
    p = 2 * special.ndtr(-np.abs(z))
    return ResultTable({"Estimate": estimate, "Std. Error": std_error, "z value": z, "Pr(>|z|)": p})


def intervals(estimate: np.ndarray, std_error: np.ndarray, level: float) -> np.ndarray:
    """estimate +- z std_error, (P, 2)."""
    if not 0 < level < 1:
        raise ValueError(f"level is a probability between 0 and 1, not {level!r}")
    z = special.ndtri(0.5 + level / 2)
    return np.column_stack([estimate - z * std_error, estimate + z * std_error])


def stars(p: float) -> str:
    """R's significance codes."""
    for bound, mark in ((0.001, "***"), (0.01, "**"), (0.05, "*"), (0.1, ".")):
        if p < bound:
            return mark
    return ""
