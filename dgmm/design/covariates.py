"""The covariates of a fit as the user gave them: for averages over the sample, for grids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dgmm.design.variables import Column

__all__ = ["covariate_frame", "covariate_values", "typical_value"]


def covariate_frame(columns: Mapping[str, Column]) -> pd.DataFrame:
    """The covariates as a frame, in canonical row order, categories with the levels of the fit."""
    return pd.DataFrame({name: _series(column, column.values) for name, column in columns.items()})


def covariate_values(column: Column, size: int, levels: Sequence[Any] = ()) -> Any:
    """Values that a grid goes through: ``size`` evenly spaced numbers, or every level.

    levels: of a number that the formula makes a category.
    """
    if levels:
        return list(levels)
    if column.variable.kind == "number":
        seen = column.values[~np.isnan(column.values)]
        return np.linspace(seen.min(), seen.max(), size)
    return [False, True] if column.variable.kind == "boolean" else list(column.variable.levels)


def typical_value(column: Column, levels: Sequence[Any] = ()) -> Any:
    """The mean of a number, False of a boolean, the first level of a category.

    levels: of a number that the formula makes a category.
    """
    if levels:
        return levels[0]
    if column.variable.kind == "number":
        return float(np.nanmean(column.values))
    return False if column.variable.kind == "boolean" else column.variable.levels[0]


def _series(column: Column, values: np.ndarray) -> Any:
    kind = column.variable.kind
    if kind == "category":
        return pd.Categorical.from_codes(values, categories=list(column.variable.levels))
    return values.astype(bool) if kind == "boolean" else values
