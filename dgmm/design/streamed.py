"""Columns of a formula from rows that are not in memory: read in batches, encoded as in memory.

Learnt first, from all rows whose covariates are complete: kinds and levels of the columns by a
query, knots and means of transforms from the values as they come. Batches are then encoded by the
functions that encode a frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from dgmm.design.encoding import Columns, encode
from dgmm.design.expressions import Evaluator, ExpressionError, names_of, unknown_column
from dgmm.design.grouping import GroupingSpecification
from dgmm.design.incomplete import LeftOut
from dgmm.design.labels import label_key, plain_labels
from dgmm.design.specification import block_texts
from dgmm.design.variables import Column, Variable, refuse_dates
from dgmm.files.stored import Stored, quantiles
from dgmm.formula import Formula, linear_terms
from dgmm.transforms import Factor, State, Values

__all__ = ["Batch", "Reading", "complete_stored", "open_reading"]

MOST_LEVELS = 10_000
"""Levels of a category: more are no covariate."""

Value = np.ndarray | Factor


@dataclass(frozen=True)
class Batch:
    """Some rows: the columns of every block, the outcome and what stands beside the formula."""

    key: Any  # (m,) labels of the subjects, an array of Arrow
    blocks: dict[str, np.ndarray]  # (m, p) each
    y: np.ndarray  # (m,) NaN where it was not seen
    offset: np.ndarray  # (m,)
    weights: np.ndarray  # (m,)

    @property
    def seen(self) -> np.ndarray:
        """Where the outcome was seen, (m,) bool."""
        return ~np.isnan(self.y)


@dataclass(frozen=True, eq=False)
class Reading:
    """How the rows of a table become the columns of a formula.

    stored: the rows whose covariates are complete. outcomes: columns of the outcome, which may be
    missing. states: of the transforms; filled while they are learnt.
    """

    stored: Stored
    formula: Formula
    group: str
    variables: dict[str, Variable]
    outcomes: tuple[str, ...]
    weights: str | None = None
    offset: str | None = None
    states: dict[str, State] = field(default_factory=dict)

    def subjects(self) -> pd.Series:
        """The labels of all subjects, in any order."""
        return self.stored.keys(self.group)

    def grouping(self, labels: tuple[Any, ...]) -> GroupingSpecification:
        """The memory of the subjects."""
        return GroupingSpecification(self.formula.latents[0].group, (self.group,), (labels,), ())

    def no_rows(self) -> dict[str, Column]:
        """The columns without rows."""
        return {name: _no_rows(one) for name, one in self.variables.items()}

    def time(self) -> str | None:
        """The first number left of a bar that varies, as in a frame."""
        factors = [f for one in self.formula.latents for f in linear_terms(one.terms).factors]
        names = list(dict.fromkeys(n for f in factors for n in names_of(f, self.variables)))
        numbers = [name for name in names if self.variables[name].kind == "number"]
        ends = self.stored.extremes(numbers)
        return next((name for name in numbers if ends[name][0] < ends[name][1]), None)

    def empty(self) -> Evaluator:
        """An evaluator of no rows, which learns the states of transforms as it meets them."""
        none = {name: one.value() for name, one in self.no_rows().items()}
        return Evaluator(none, self.states, learning=True, source=self._sample)

    def _sample(self, text: str, value: Any, by_levels: bool) -> Any:
        """What the transform of an expression learns from."""
        if isinstance(value, Factor):
            return value
        array = np.asarray(value)
        if array.ndim != 1 or array.dtype.kind not in "iufb":
            return value  # whatever is wrong with it is said there
        values = Streamed(self, text)
        return values.distinct(array.dtype) if by_levels else values

    def evaluators(
        self, names: Sequence[str], keys: Sequence[str] = ()
    ) -> Iterator[tuple[Any, dict[str, np.ndarray], Evaluator]]:
        """Per batch the labels of subjects, other columns of numbers, and what evaluates texts."""
        names = list(dict.fromkeys(names))
        for batch in self.stored.batches(names, keys):
            values: dict[str, Value] = {}
            beside: dict[str, np.ndarray] = {}
            for name, column in zip(names, batch.columns[len(keys) :], strict=True):
                if name in self.variables:
                    values[name] = _column(column, self.variables[name]).value()
                else:
                    beside[name] = _numbers(column)
            evaluator = Evaluator(values, self.states, learning=False)
            yield batch.columns[0] if keys else None, beside, evaluator

    def batches(self, blocks: Mapping[str, Sequence[str]]) -> Iterator[Batch]:
        """All rows; of every block the columns of these names."""
        texts = {key: text for key, text, _ in block_texts(self.formula)}
        extra = [name for name in (self.weights, self.offset) if name is not None]
        names = list(dict.fromkeys((*self.variables, *extra)))
        for key, beside, evaluator in self.evaluators(names, (self.group,)):
            size = len(key)
            values = beside | {
                name: np.asarray(evaluator.columns[name], dtype=float)
                for name in extra
                if name not in beside
            }
            ones, zeros = np.ones(size), np.zeros(size)
            yield Batch(
                key,
                {
                    k: encode(texts[k], evaluator, size).select(own).matrix
                    for k, own in blocks.items()
                },
                self._outcome(evaluator, size),
                (values[self.offset] if self.offset else zeros) + self._offset(evaluator, size),
                values[self.weights] if self.weights else ones,
            )

    def _outcome(self, evaluator: Evaluator, size: int) -> np.ndarray:
        text = self.formula.response.parts[0]
        y = np.array(evaluator.value(text), dtype=float)
        gaps = [np.isnan(np.asarray(evaluator.columns[name], float)) for name in self.outcomes]
        missing = np.logical_or.reduce(gaps)
        if y.shape != missing.shape:
            raise ValueError(f"the outcome `{text}` has {y.ndim} dimensions; one column is needed")
        bad = int((~missing & ~np.isfinite(y)).sum())
        if bad:
            raise ValueError(
                f"the outcome `{text}` is not a finite number in {bad} of {size} rows "
                f"where {', '.join(self.outcomes)} is present; look at the range of the column"
            )
        y[missing] = np.nan
        return y

    def _offset(self, evaluator: Evaluator, size: int) -> np.ndarray:
        total = np.zeros(size)
        for text in self.formula.offsets:
            value = np.asarray(evaluator.value(text))
            if value.dtype.kind not in "fiub" or value.ndim > 1:
                raise ValueError(f"offset({text}) is not one numeric column")
            if not np.isfinite(value).all():
                raise ValueError(f"offset({text}) is not a finite number in every row")
            total = total + value
        return total

    def columns(self) -> dict[str, Columns]:
        """The columns of every block without rows: their names, terms and variables."""
        evaluator = self.empty()
        found = {key: encode(text, evaluator, 0) for key, text, _ in block_texts(self.formula)}
        for text in self.formula.offsets:
            evaluator.value(text)
        text = self.formula.response.parts[0]
        value = evaluator.value(text)
        if isinstance(value, Factor) or np.asarray(value).dtype == bool:
            raise ValueError(
                f"non-numeric response: `{text}` is a category; a number is needed here"
            )
        return found


@dataclass(frozen=True, eq=False)
class Streamed(Values):
    """The values of an expression, read as often as something is asked of them."""

    reading: Reading
    text: str

    def _arrays(self) -> Iterator[np.ndarray]:
        names = names_of(self.text, self.reading.variables)
        for _, _, evaluator in self.reading.evaluators(names):
            values = np.asarray(evaluator.value(self.text))
            yield values[~np.isnan(values)] if values.dtype.kind == "f" else values

    @cached_property
    def _size(self) -> tuple[int, float, float]:
        """How many, the least and the largest."""
        count, low, high = 0, math.inf, -math.inf
        for values in self._arrays():
            if len(values):
                count += len(values)
                low, high = min(low, float(values.min())), max(high, float(values.max()))
        if not count:
            raise ValueError(f"`{self.text}` has no value to learn from: all are missing")
        return count, low, high

    @property
    def count(self) -> int:
        return self._size[0]

    @property
    def ends(self) -> tuple[float, float]:
        return self._size[1:]

    def total(self, function: Callable[[np.ndarray], np.ndarray]) -> float:
        return math.fsum(float(np.sum(function(values.astype(float)))) for values in self._arrays())

    def quantiles(self, at: np.ndarray, low: float, high: float) -> np.ndarray:
        inside = (
            values[(values >= low) & (values <= high)].astype(float) for values in self._arrays()
        )
        return np.array(quantiles(inside, at.tolist()))

    def different(self, most: int) -> int:
        return len(self._different(most))

    def _different(self, most: int) -> set[Any]:
        found: set[Any] = set()
        for values in self._arrays():
            found |= set(np.unique(values).tolist())
            if len(found) > most:
                return set(sorted(found)[:most])
        return found

    def distinct(self, dtype: np.dtype[Any]) -> np.ndarray:
        """The values that occur."""
        found = self._different(MOST_LEVELS + 1)
        if len(found) > MOST_LEVELS:
            raise ExpressionError(
                f"`{self.text}` has more than {MOST_LEVELS:,} values: a category has fewer levels"
            )
        return np.array(sorted(found), dtype=dtype)


def open_reading(
    formula: Formula,
    stored: Stored,
    group: str,
    covariates: Sequence[str],
    outcomes: Sequence[str],
    weights: str | None,
    offset: str | None,
) -> Reading:
    """Learn the columns of a formula from the rows of a table that are complete.

    Args:
        formula: with linear terms of one grouping factor.
        stored: those rows.
        group: the column of the subjects.
        covariates: columns of the right-hand side.
        outcomes: columns of the outcome.
        weights: the column of prior weights.
        offset: the column that is added to the linear predictor.
    """
    own = dict.fromkeys((*covariates, *outcomes))
    variables = {name: _variable(stored, name) for name in own}
    return Reading(stored, formula, group, variables, tuple(outcomes), weights, offset)


def complete_stored(
    stored: Stored,
    covariates: Sequence[str],
    group: str,
    outcomes: Sequence[str],
    beside: Sequence[str],
    strict: bool,
) -> tuple[Stored, LeftOut]:
    """The rows without a gap in a covariate, the group, a weight or an offset, and what is lost.

    Raises:
        ValueError: a column is not there, holds values that no formula takes or infinite ones, or
            no row is left.
    """
    for name in (*covariates, group, *outcomes, *beside):
        if name not in stored.names:
            raise unknown_column(name, stored.names)
    for name in beside:
        if stored.kind(name) != "number":
            raise ValueError(f"column `{name}`, a weight or an offset, is not numeric")
    numbers = list(dict.fromkeys((*covariates, *outcomes, *beside)))
    needed = list(dict.fromkeys((*covariates, *beside, group)))
    total, dropped, gaps, infinite = stored.faults(needed, numbers)
    for name, count in infinite.items():
        raise ValueError(f"column `{name}` has {count} infinite values")
    counts = ", ".join(f"{count} in `{name}`" for name, count in gaps.items())
    if not total:
        raise ValueError("the data have no rows")
    if gaps and strict:
        raise ValueError(
            f"{dropped} of {total} rows have missing values ({counts}); "
            "missing_covariates='drop' would leave them out"
        )
    if dropped == total:
        raise ValueError(
            f"no complete row is left: all {total} rows have missing values ({counts})"
        )
    return stored.complete(needed), LeftOut(dropped, total, gaps)


def _variable(stored: Stored, name: str) -> Variable:
    """The kind of a column, of a category its levels in the order in which memory has them."""
    kind, known = stored.kind(name), stored.dictionary(name)
    if kind in ("number", "boolean"):
        return Variable(name, kind)
    if kind != "category":
        raise ValueError(
            f"column `{name}` holds {kind} values; a formula needs numbers, booleans, text or "
            "categories (turn dates into a number of days or years first)"
        )
    used = [one for one in stored.levels(name, MOST_LEVELS) if one is not None]
    if known is None:
        variable = Variable(name, "category", plain_labels(sorted(used, key=str)))
        refuse_dates(pd.Series(used, dtype=object), Column(variable, np.zeros(0, dtype=np.int64)))
        return variable
    levels, ordered = known
    there = {label_key(one) for one in used}
    first = [one for one in levels if label_key(one) in there]
    rest = there - {label_key(one) for one in first}
    others = sorted((one for one in used if label_key(one) in rest), key=str)
    return Variable(name, "category", plain_labels([*first, *others]), ordered)


def _no_rows(variable: Variable) -> Column:
    kind = np.int64 if variable.kind == "category" else np.float64
    return Column(variable, np.zeros(0, dtype=kind))


def _column(values: Any, variable: Variable) -> Column:
    """Some rows of a column, from an array of Arrow."""
    if variable.kind != "category":
        return Column(variable, _numbers(values))
    coded = values.dictionary_encode()
    place = {label_key(level): code for code, level in enumerate(variable.levels)}
    table = np.array(
        [-1 if one is None else place[label_key(one)] for one in coded.dictionary.to_pylist()]
        + [-1],
        dtype=np.int64,
    )
    last = len(table) - 1
    return Column(variable, table[coded.indices.fill_null(last).to_numpy(zero_copy_only=False)])


def _numbers(values: Any) -> np.ndarray:
    """An array of Arrow as float64 (m,), NaN where it has no value."""
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)
