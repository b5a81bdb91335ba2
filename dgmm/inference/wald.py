"""z values, p values and intervals from estimates and standard errors; quantiles of a posterior."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy import special

from dgmm.information import Spread
from dgmm.runtime.probability import check_level
from dgmm.runtime.result_table import Cells

__all__ = ["as_ratios", "intervals", "spread_table", "stars", "wald_cells", "wald_table"]


def wald_table(estimate: pd.Series, std_error: pd.Series) -> pd.DataFrame:
    """Estimate, Std. Error, z value, Pr(>|z|): the two-sided Wald test of each coefficient."""
    names = estimate.index.to_list()
    return wald_cells(names, estimate.to_numpy(), std_error.to_numpy()).frame()


def wald_cells(names: Sequence[str], estimate: np.ndarray, std_error: np.ndarray) -> Cells:
    """The columns of :func:`wald_table`, (p,) each."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = estimate / std_error
    p = 2 * special.ndtr(-np.abs(z))
    return Cells(
        names, {"Estimate": estimate, "Std. Error": std_error, "z value": z, "Pr(>|z|)": p}
    )


def intervals(estimate: np.ndarray, std_error: np.ndarray, level: float) -> np.ndarray:
    """estimate +- z std_error, (P, 2)."""
    check_level(level)
    z = special.ndtri(0.5 + level / 2)
    return np.column_stack([estimate - z * std_error, estimate + z * std_error])


def spread_table(
    spread: Spread, index: list[str], level: float, *, ratios: bool = False
) -> pd.DataFrame:
    """The Wald table of functions with their intervals; of a posterior Mean, SD, lower and upper.

    ratios: the functions are logarithms, and the table is about what they are logarithms of.
    """
    check_level(level)
    if spread.posterior:
        shown = spread.mapped(torch.exp, spread.value.exp()) if ratios else spread
        ends = shown.interval(level).numpy()
        columns = {"Mean": shown.value.numpy(), "SD": shown.se.numpy()}
        return pd.DataFrame({**columns, "lower": ends[:, 0], "upper": ends[:, 1]}, index=index)
    estimate = pd.Series(spread.value.numpy(), index=index, dtype=float)
    error = pd.Series(spread.se.numpy(), index=index, dtype=float)
    table = wald_table(estimate, error)
    table[["lower", "upper"]] = intervals(estimate.to_numpy(), error.to_numpy(), level)
    return as_ratios(table) if ratios else table


def as_ratios(logs: pd.DataFrame) -> pd.DataFrame:
    """A table of logarithms of ratios as one of ratios; tests stay those of the logarithms."""
    found = logs.copy()
    found["Estimate"] = np.exp(logs["Estimate"])
    found["Std. Error"] = found["Estimate"] * logs["Std. Error"]
    found[["lower", "upper"]] = np.exp(logs[["lower", "upper"]])
    return found


def stars(p: float) -> str:
    """R's significance codes."""
    for bound, mark in ((0.001, "***"), (0.01, "**"), (0.05, "*"), (0.1, ".")):
        if p < bound:
            return mark
    return ""
