"""The outcome as numbers: plain, two-level, `cbind(success, failure)` or `success / trials`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dgmm.design.expressions import Evaluator, names_of
from dgmm.design.variables import Column
from dgmm.formula import Response
from dgmm.transforms import Factor


@dataclass(frozen=True)
class Outcome:
    """y (N,) with NaN where missing, trials (N,), and the labels of a category if it is one."""

    y: np.ndarray
    trials: np.ndarray
    levels: tuple[Any, ...] = ()


def read_outcome(
    response: Response,
    columns: Mapping[str, Column],
    evaluator: Evaluator,
    levels: tuple[Any, ...] = (),
    ordered: bool = False,
) -> Outcome:
    """Evaluate the left-hand side; `levels` are those of the fit when new data are read."""
    if response.kind == "plain":
        return _plain(response.parts[0], columns, evaluator, levels, ordered)
    first, second = (_numbers(part, columns, evaluator) for part in response.parts)
    missing = np.isnan(first) | np.isnan(second)
    trials = second if response.kind == "ratio" else first + second
    if response.kind == "cbind" and ((first < 0) | (second < 0)).any():
        raise ValueError(f"`{response.text}`: counts cannot be negative")
    if response.kind == "ratio" and (trials == 0).any():
        raise ValueError(f"`{response.text}`: the denominator is 0 in {(trials == 0).sum()} rows")
    return Outcome(np.where(missing, np.nan, first), np.where(missing, 1.0, trials))


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
    if isinstance(value, Factor):
        y, levels = _codes(text, value, levels, ordered)
    else:
        y, levels = _numbers(text, columns, evaluator), ()
    return Outcome(y, np.ones(len(y)), levels)


def _codes(
    text: str, value: Factor, levels: tuple[Any, ...], ordered: bool
) -> tuple[np.ndarray, tuple[Any, ...]]:
    found = levels or value.levels
    if len(found) != 2 and not ordered:
        shown = ", ".join(map(repr, found[:5])) + (", ..." if len(found) > 5 else "")
        raise ValueError(
            f"non-numeric response: `{text}` is a category with {len(found)} levels ({shown}); "
            "an outcome is a number, a boolean, or a category of two levels; for ordered "
            "categories use family='cumulative'"
        )
    return np.where(value.codes < 0, np.nan, value.codes.astype(float)), found


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
