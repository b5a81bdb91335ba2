"""Values given beside a data frame, one per row: a pandas Series by its index, others in order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dgmm.design.variables import Table
from dgmm.runtime.listing import shortened

__all__ = ["beside", "by_index", "row_labels"]


def beside(data: Any, given: Any, what: str) -> np.ndarray:
    """The values as float64 (N,), in the order of the rows of a data frame.

    Raises:
        ValueError: values that are no numbers, or a Series whose index does not name the rows.
    """
    if isinstance(given, pd.Series):
        given = by_index(given, row_labels(data), what)
    try:
        return np.array(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"{what}= is a column name or one number per row, not {shortened(given)}"
        ) from None


def row_labels(data: Any) -> pd.Index:
    """The labels of the rows of a data frame, their numbers where the library has none."""
    return (data if isinstance(data, Table) else Table(data)).index


def by_index(given: pd.Series, index: pd.Index, what: str) -> np.ndarray:
    """The values of a Series at the labels of an index, (N,).

    Raises:
        ValueError: labels that the Series does not have, or has more than once.
    """
    if not given.index.equals(index):
        absent = index[~index.isin(given.index)]
        if len(absent):
            raise ValueError(
                f"{what} is a Series whose index is not that of the data: {len(absent)} of "
                f"{len(index)} rows are not in it, such as {absent[0]!r}; give an array if its "
                "values stand in the order of the rows"
            )
        if not (given.index.is_unique and index.is_unique):
            raise ValueError(
                f"{what} is a Series in another order than the data, and labels of its index, or "
                "of theirs, stand for several rows: sort it as the data and give an array"
            )
        given = given.loc[index]
    return given.to_numpy(dtype=np.float64, na_value=np.nan)
