"""The outcome as numbers: plain, two-level, `cbind(success, failure)` or `success / trials`.

Ordered categories are numbered by their labels where these are consecutive whole numbers, else
1, ..., K: whether a column holds numbers, text or categories does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dgmm.design.expressions import Evaluator, names_of
from dgmm.design.labels import label_key
from dgmm.design.variables import Column
from dgmm.formula import Response, plain_name
from dgmm.runtime.listing import listed
from dgmm.transforms import Factor


@dataclass(frozen=True)
class Outcome:
    """y (N,) with NaN where missing, trials (N,), and the labels of a category if it is one."""

    y: np.ndarray
    trials: np.ndarray
    levels: tuple[Any, ...] = ()
    messages: tuple[str, ...] = ()


def first_category(levels: tuple[Any, ...]) -> int:
    """The number of the first of some ordered categories."""
    try:
        numbers = [float(str(level)) for level in levels]
    except ValueError:
        return 1
    consecutive = numbers == [numbers[0] + k for k in range(len(numbers))]
    return int(numbers[0]) if consecutive and numbers[0].is_integer() else 1


def numbered(given: Any, levels: tuple[Any, ...], ordered: bool) -> Any:
    """Read outcomes given as labels of the categories of a fit; numbers stay as they are.

    Raises:
        ValueError: a label that no category has.
    """
    series = isinstance(given, pd.Series)
    values = given if series else pd.Series(np.asarray(given).ravel())
    if not levels or pd.api.types.is_numeric_dtype(values.dtype):
        return given
    first = first_category(levels) if ordered else 0
    number = {label_key(level): float(first + k) for k, level in enumerate(levels)}
    missing = values.isna().to_numpy()
    keys = ["" if gap else label_key(one) for one, gap in zip(values, missing, strict=True)]
    unknown = {key for key, gap in zip(keys, missing, strict=True) if not gap} - set(number)
    if unknown:
        raise ValueError(
            f"the outcome has {listed(sorted(unknown), 5)}, and the categories of the fit are "
            f"{listed(levels)}"
        )
    found = np.array([number.get(key, np.nan) for key in keys])
    return pd.Series(found, index=values.index) if series else found


def read_outcome(
    response: Response,
    columns: Mapping[str, Column],
    evaluator: Evaluator,
    levels: tuple[Any, ...] = (),
    ordered: bool = False,
) -> Outcome:
    """Evaluate the left-hand side; `levels` are those of the fit when new data are read.

    ordered: a category may have any number of levels, whose order must be known.
    """
    if response.kind == "plain":
        return _plain(response.parts[0], columns, evaluator, levels, ordered)
    first, second = (_numbers(part, columns, evaluator) for part in response.parts)
    missing = np.isnan(first) | np.isnan(second)
    trials = second if response.kind == "ratio" else first + second
    if response.kind == "cbind" and ((first < 0) | (second < 0)).any():
        raise ValueError(f"`{response.text}`: counts cannot be negative")
    impossible = int(((trials == 0) & (first != 0)).sum())
    if impossible:
        raise ValueError(
            f"`{response.text}`: the denominator is 0 and the numerator is not in {impossible} rows"
        )
    without = (trials == 0) | (np.isnan(trials) & ~np.isnan(first))
    missing = missing | (trials == 0)
    messages: tuple[str, ...] = ()
    if without.any():
        messages = (
            f"the outcome `{response.text}` has no trials in {without.sum()} of {len(trials)} "
            "rows, which count as not observed",
        )
    return Outcome(
        np.where(missing, np.nan, first), np.where(missing, 1.0, trials), messages=messages
    )


def missing_outcome(outcome_names: list[str], columns: Mapping[str, Column]) -> np.ndarray:
    """Return which rows miss a column of the outcome, (N,) bool."""
    return np.logical_or.reduce([columns[name].missing for name in outcome_names])


def _plain(
    text: str,
    columns: Mapping[str, Column],
    evaluator: Evaluator,
    levels: tuple[Any, ...],
    ordered: bool,
) -> Outcome:
    value = evaluator.value(text)
    if not isinstance(value, Factor):
        y = _numbers(text, columns, evaluator)
        column = columns.get(plain_name(text) or text)
        boolean = column.variable.kind == "boolean" if column else np.asarray(value).dtype == bool
        if not boolean:
            return Outcome(y, np.ones(len(y)))
        value = Factor(np.where(np.isnan(y), -1, y).astype(int), (False, True), ordered=True)
    y, levels = _codes(text, value, levels, ordered)
    return Outcome(y, np.ones(len(y)), levels)


def _codes(
    text: str, value: Factor, levels: tuple[Any, ...], ordered: bool
) -> tuple[np.ndarray, tuple[Any, ...]]:
    found = levels or value.levels
    some = listed(map(repr, found), 5)
    if len(found) != 2 and not ordered:
        raise ValueError(
            f"non-numeric response: `{text}` is a category with {len(found)} levels "
            f"({some}); an outcome is a number, a boolean, or a category of two levels; for "
            "ordered categories use family='cumulative'"
        )
    if not levels and len(found) > 2 and not value.ordered:
        raise ValueError(
            f"the categories of the outcome `{text}` ({some}) are in no order: they are text or an "
            "unordered category, and family='cumulative' needs an order. Give it in the formula, "
            f"C({text}, levels=['lowest', ..., 'highest']) with all levels in their order, or make "
            "the column an ordered category, pd.Categorical(..., categories=[...], ordered=True)"
        )
    first = first_category(found) if ordered else 0
    return np.where(value.codes < 0, np.nan, first + value.codes.astype(float)), found


def _numbers(text: str, columns: Mapping[str, Column], evaluator: Evaluator) -> np.ndarray:
    value = evaluator.value(text)
    if isinstance(value, Factor):
        raise ValueError(f"non-numeric response: `{text}` is a category; a number is needed here")
    names = names_of(text, columns)
    if not names:
        raise ValueError(f"the outcome `{text}` names no column")
    missing = missing_outcome(list(names), columns)
    array = np.asarray(value, dtype=np.float64)
    if array.shape != missing.shape:
        raise ValueError(f"the outcome `{text}` has {array.ndim} dimensions; one column is needed")
    y = np.where(missing, np.nan, array)
    bad = ~missing & ~np.isfinite(y)
    if bad.any():
        raise ValueError(
            f"the outcome `{text}` is not a finite number in {bad.sum()} rows where "
            f"{', '.join(names)} is present; look at the range of the column"
        )
    return y
