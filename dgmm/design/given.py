"""Values given beside a data frame, one per row: a pandas Series by its index, others in order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dgmm.design.variables import Table
from dgmm.runtime.listing import shortened

__all__ = ["as_numbers", "beside", "by_index", "row_labels"]


def beside(data: Any, given: Any, what: str) -> np.ndarray:
    """The values as float64 (N,), in the order of the rows of a data frame.

    Raises:
        ValueError: values that are no numbers, or a Series whose index does not name the rows.
    """
    if isinstance(given, pd.Series):
        given = by_index(given, row_labels(data), what)
    return as_numbers(given, f"{what}= is a column name or one number per row")


def as_numbers(given: Any, wanted: str) -> np.ndarray:
    """Values of any kind as float64 of their own; ``wanted`` begins the error about others.

    Raises:
        ValueError: text, dates or anything else that is no number.
    """
    try:
        values = given if isinstance(given, pd.Series) else pd.Series(np.asarray(given).ravel())
        if values.dtype.kind not in "mM":  # dates would be nanoseconds
            numbers: np.ndarray = values.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
            return numbers.reshape(np.shape(given))
    except (TypeError, ValueError):
        pass
    shown = given.tolist() if hasattr(given, "tolist") else given
    raise ValueError(f"{wanted}, not {shortened(shown)}")


def row_labels(data: Any) -> pd.Index:
    """The labels of the rows of a data frame, their numbers where the library has none."""
    return Table.of(data).index


def by_index(given: pd.Series, index: pd.Index, what: str) -> pd.Series:
    """The Series at the labels of an index, (N,).

    Raises:
        ValueError: labels that the Series does not have, or has more than once.
    """
    if not given.index.equals(index):
        absent = index[~index.isin(given.index)]
        if len(absent):
            first = shortened(absent[:1].tolist()[0])
            raise ValueError(
                f"{what} is a Series whose index is not that of the data: {len(absent)} of "
                f"{len(index)} rows are not in it, such as {first}; give an array if its "
                "values stand in the order of the rows"
            )
        if not (given.index.is_unique and index.is_unique):
            raise ValueError(
                f"{what} is a Series in another order than the data, and labels of its index, or "
                "of theirs, stand for several rows: sort it as the data and give an array"
            )
        given = given.loc[index]
    return given
