"""The columns a formula needs, complete, finite and in canonical row order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dgmm.design.expressions import ExpressionError, names_of, unknown_column
from dgmm.design.given import beside
from dgmm.design.grouping import (
    Grouping,
    GroupingSpecification,
    label_rank,
    learn_grouping,
    recall_grouping,
)
from dgmm.design.incomplete import LeftOut, complete_rows
from dgmm.design.labels import written_twice
from dgmm.design.specification import Specification, expressions
from dgmm.design.variables import (
    Column,
    Table,
    partly_labelled,
    read_column,
    recall_column,
    refuse_dates,
)
from dgmm.formula import Formula, linear_terms, split_group
from dgmm.runtime.listing import listed


@dataclass(frozen=True)
class Request:
    """What is to be read: at the fit without, for new data with, the specification of the fit."""

    formula: Formula
    weights: Any = None
    offset: Any = None
    strict: bool = False
    spec: Specification | None = None
    outcome: bool = True
    intercept: bool = True
    ordered: bool = False

    def outcome_names(self, columns: Collection[str]) -> tuple[str, ...]:
        """Return the columns of the left-hand side."""
        if not self.outcome:
            return ()
        return _names(self.formula.response.parts, columns)

    def covariate_names(self, columns: Collection[str]) -> tuple[str, ...]:
        """Return the columns of all terms, time first, in order of appearance."""
        latent = [factor for t in self.formula.latents for factor in linear_terms(t.terms).factors]
        return _names([*latent, *expressions(self.formula)], columns)

    def group_names(self) -> tuple[str, ...]:
        """Return the columns of all grouping factors."""
        groups = [split_group(term.group) for term in self.formula.latents]
        return tuple(dict.fromkeys(name for group in groups for name in group))

    def names(self, columns: Collection[str]) -> tuple[str, ...]:
        """Return every column the formula names."""
        return (
            *self.outcome_names(columns),
            *self.covariate_names(columns),
            *self.group_names(),
        )


@dataclass(frozen=True)
class Frame:
    """The columns read, all in the same canonical row order."""

    columns: dict[str, Column]
    covariates: tuple[str, ...]  # the columns of the right-hand side
    groupings: tuple[Grouping, ...]
    memories: tuple[GroupingSpecification, ...]
    weights: np.ndarray
    offset: np.ndarray
    time: np.ndarray
    time_name: str | None
    weights_name: str | None
    offset_name: str | None
    offset_array: bool
    rows: np.ndarray
    index: pd.Index
    left_out: LeftOut
    messages: tuple[str, ...]
    has_outcome: bool
    intercept: bool
    ordered: bool


def read_frame(table: Table, request: Request) -> Frame:
    """Read, drop incomplete rows, find the groups, and sort.

    Raises:
        ValueError: no row, or nothing but incomplete ones; see also :func:`complete_rows`.
    """
    if not table.size:
        raise ValueError("the data have no rows")
    covariates = request.covariate_names(table.names)
    outcomes = request.outcome_names(table.names)
    columns = _read_columns(table, request, tuple(dict.fromkeys((*covariates, *outcomes))))
    given = {"weights": request.weights, "offset": request.offset}
    extras = {what: _extra(table, one, what) for what, one in given.items() if one is not None}
    groups = _group_series(table, request)
    missing = {name: columns[name].missing for name in covariates}
    missing |= {_label(request, key): np.isnan(values) for key, values in extras.items()}
    if request.outcome:  # an outcome belongs to a subject
        missing |= {name: one.isna().to_numpy() for name, one in groups.items()}
    rows, left_out = complete_rows(missing, table.size, request.strict)
    messages = [str(left_out)] if left_out.rows else []
    if request.spec is None:
        told = (partly_labelled(column.variable) for column in columns.values())
        messages += [*filter(None, told), *_written_twice(groups)]
    if len(rows) < table.size:
        columns = {name: column.take(rows) for name, column in columns.items()}
        groups = {name: one.iloc[rows] for name, one in groups.items()}
        extras = {what: values[rows] for what, values in extras.items()}
    columns = {name: _used(column, request) for name, column in columns.items()}
    groupings, memories = _groupings(request, groups, len(rows))
    time_name = request.spec.time_name if request.spec else _time(request, columns)
    order = _order(groupings, columns, (time_name, *covariates, *outcomes), extras)
    # most data come in order: a copy, as the user may change them, is quicker than a selection
    sorted_rows = order if (order[1:] < order[:-1]).any() else slice(None)
    columns = {name: column.take(sorted_rows) for name, column in columns.items()}
    groupings = [grouping.take(sorted_rows) for grouping in groupings]
    extras = {what: values[sorted_rows].copy() for what, values in extras.items()}
    rows = rows[sorted_rows]
    return Frame(
        columns=columns,
        covariates=covariates,
        groupings=tuple(groupings),
        memories=memories,
        weights=extras.get("weights", np.ones(len(rows))),
        offset=extras.get("offset", np.zeros(len(rows))),
        time=columns[time_name].values if time_name else np.full(len(rows), np.nan),
        time_name=time_name,
        weights_name=request.weights if isinstance(request.weights, str) else None,
        offset_name=request.offset if isinstance(request.offset, str) else None,
        offset_array=request.offset is not None and not isinstance(request.offset, str),
        rows=rows,
        index=table.index[rows],
        left_out=left_out,
        messages=tuple(messages),
        has_outcome=request.outcome,
        intercept=request.intercept,
        ordered=request.ordered,
    )


def read_names(
    formula: Formula, columns: Collection[str]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the columns of the covariates, of the groups and of the outcome."""
    request = Request(formula)
    return request.covariate_names(columns), request.group_names(), request.outcome_names(columns)


def names_in(formula: Formula, columns: Collection[str]) -> tuple[str, ...]:
    """Return every column that a formula reads."""
    return Request(formula).names(columns)


def _names(texts: Iterable[str], columns: Collection[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for text in texts for name in names_of(text, columns)))


def _read_columns(table: Table, request: Request, names: Sequence[str]) -> dict[str, Column]:
    known = {v.name: v for v in request.spec.variables} if request.spec else {}
    columns = {}
    for name in names:
        series = table.series(name)
        if name in known:
            column = recall_column(series, known[name])
        else:
            column = read_column(series, name)
            refuse_dates(series, column)
        infinite = np.isinf(column.values).sum() if column.variable.kind == "number" else 0
        if infinite:
            raise ValueError(f"column `{name}` has {infinite} infinite values")
        columns[name] = column
    return columns


def _used(column: Column, request: Request) -> Column:
    return column if request.spec else column.only_used_levels()


def _extra(table: Table, given: Any, what: str) -> np.ndarray:
    """Read weights or offset: a column name, or an array with one value per row of the data."""
    if isinstance(given, str):
        column = read_column(table.series(given), given)
        if column.variable.kind != "number":
            raise ValueError(f"{what}: column `{given}` is not numeric")
        values = column.values
    else:
        values = beside(table, given, what)
    if values.shape != (table.size,):
        raise ValueError(f"{what} has shape {values.shape}; the data have {table.size} rows")
    if np.isinf(values).any() or (what == "weights" and (values < 0).any()):
        raise ValueError(f"{what} must be finite" + (" and not negative" * (what == "weights")))
    return values


def _label(request: Request, key: str) -> str:
    given = request.weights if key == "weights" else request.offset
    return given if isinstance(given, str) else key


def _group_series(table: Table, request: Request) -> dict[str, pd.Series]:
    """Read the grouping columns; in new data without outcomes they may be absent."""
    found = {}
    for name in request.group_names():
        if name in table.names:
            found[name] = table.series(name)
        elif request.outcome:
            error = unknown_column(name, table.names)
            raise ExpressionError(f"group `{name}` is not a column: {error}", name)
    return found


def _written_twice(groups: dict[str, pd.Series]) -> list[str]:
    twice = {name: written_twice(series) for name, series in groups.items()}
    return [
        f"`{name}` holds {listed(labels, 5)} as text and as another type: each is one level"
        for name, labels in twice.items()
        if labels
    ]


def _groupings(
    request: Request, series: dict[str, pd.Series], size: int
) -> tuple[list[Grouping], tuple[GroupingSpecification, ...]]:
    if request.spec is not None:
        memories = request.spec.groupings
        return [_recall(memory, series, size) for memory in memories], memories
    found: dict[str, tuple[Grouping, GroupingSpecification]] = {}
    for term in request.formula.latents:
        if term.group not in found:
            names, of = split_group(term.group), request.formula.latents
            paths = all(one.syntax.serial for one in of if one.group == term.group)
            own = [series[n] for n in names]
            found[term.group] = learn_grouping(term.group, names, own, 1 if paths else 2)
    pairs = [found[term.group] for term in request.formula.latents]
    return [grouping for grouping, _ in pairs], tuple(memory for _, memory in pairs)


def _recall(memory: GroupingSpecification, series: dict[str, pd.Series], size: int) -> Grouping:
    present = all(name in series for name in memory.columns)
    columns = [series[name] for name in memory.columns] if present else None
    return recall_grouping(memory, columns, size)


def _time(request: Request, columns: dict[str, Column]) -> str | None:
    """Return the first numeric column that varies of the random parts of the first grouping factor.

    A serial part comes first.
    """
    latents = sorted(request.formula.latents, key=lambda term: not term.syntax.serial)
    own = [term for term in latents if term.group == latents[0].group]
    names = (name for term in own for name in _names(linear_terms(term.terms).factors, columns))
    for name in names:
        values = columns[name].values
        if columns[name].variable.kind == "number" and values.min() < values.max():
            return name
    return None


def _order(
    groupings: Sequence[Grouping],
    columns: dict[str, Column],
    names: Sequence[str | None],
    extras: dict[str, np.ndarray],
) -> np.ndarray:
    """Return the canonical order: by subject, then by time, then by everything else."""
    keys = []
    if groupings:
        codes = groupings[0].codes
        keys.append(codes if (codes >= 0).all() else label_rank(groupings[0].labels))
    keys += [columns[name].sort_key() for name in dict.fromkeys(names) if name is not None]
    keys += [grouping.codes for grouping in groupings[1:]]
    keys += list(extras.values())
    if len(keys) > 1 and _increasing(*keys[:2]):
        return np.arange(len(keys[0]))
    order = np.lexsort(keys[1::-1])
    if len(keys) <= 2:
        return order
    same = np.ones(len(order) - 1, dtype=bool)
    for key in keys[:2]:
        ahead, behind = key[order][1:], key[order][:-1]
        same &= (ahead == behind) | (np.isnan(ahead) & np.isnan(behind))
    # The other keys only matter where the first two tie, which is rare: sort those rows again.
    tied = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False))
    again = order[tied]
    order[tied] = again[np.lexsort([key[again] for key in reversed(keys)])]
    return order


def _increasing(first: np.ndarray, second: np.ndarray) -> bool:
    """Say whether the rows stand in strict order already, as most data come."""
    ahead, behind = first[1:], first[:-1]
    tied = ahead == behind
    return bool(((ahead > behind) | (tied & (second[1:] > second[:-1]))).all())
