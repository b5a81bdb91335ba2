"""Grouping factors: which subject, school, or class within school, a row belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dgmm.design.labels import factorize, joined_label, label_array, places_among


@dataclass(frozen=True)
class Grouping:
    """The levels of a grouping factor and the level of every row."""

    name: str
    levels: np.ndarray  # (n,) plain labels of the training data, or "a:b"
    codes: np.ndarray  # (N,) int64, -1 a level unknown at the fit
    own: np.ndarray | None = None  # (N,) labels as new data give them, None when all are levels

    @property
    def labels(self) -> np.ndarray:
        """The label of the row itself, known or not, (N,); None where it has none."""
        return self.levels[self.codes] if self.own is None else self.own

    @property
    def without_label(self) -> int:
        """Number of rows that say nothing of their level."""
        return 0 if self.own is None else sum(one is None for one in self.own.tolist())

    def take(self, rows: np.ndarray | slice) -> Grouping:
        """Return the rows given by position or slice."""
        own = None if self.own is None else self.own[rows]
        return Grouping(self.name, self.levels, self.codes[rows], own)


@dataclass(frozen=True)
class GroupingSpecification:
    """What is remembered of a grouping factor: labels per column, and the combinations seen."""

    name: str
    columns: tuple[str, ...]
    labels: tuple[tuple[Any, ...], ...]
    combinations: tuple[tuple[int, ...], ...]  # one per level: the position in each column

    def columns_at(self, codes: np.ndarray) -> dict[str, np.ndarray]:
        """The columns of rows with some levels, (N,) each."""
        places = np.array(self.combinations) if self.combinations else np.arange(codes.max() + 1)
        at = places.reshape(len(places), -1)[codes].T
        pairs = zip(self.columns, self.labels, at, strict=True)
        return {name: label_array(labels)[place] for name, labels, place in pairs}


def learn_grouping(
    name: str, columns: Sequence[str], series: Sequence[pd.Series], least: int = 2
) -> tuple[Grouping, GroupingSpecification]:
    """Find the levels, in natural order; rows without a label have been dropped before.

    least: levels that there must be; paths alone have something to say of one long series.
    """
    parts = [factorize(one) for one in series]
    codes, combinations = _combine([part[0] for part in parts], [len(part[1]) for part in parts])
    levels = _names([labels[combinations[:, k]] for k, (_, labels) in enumerate(parts)])
    if len(levels) < least:
        raise ValueError(
            f"the group `{name}` has {len(levels)} level in the complete rows; "
            "a random part needs two or more"
        )
    memory = GroupingSpecification(
        name,
        tuple(columns),
        tuple(tuple(labels.tolist()) for _, labels in parts),
        tuple(map(tuple, combinations.tolist())) if len(parts) > 1 else (),
    )
    return Grouping(name, levels, codes), memory


def recall_grouping(
    memory: GroupingSpecification, series: Sequence[pd.Series] | None, size: int
) -> Grouping:
    """Find the training levels in new data; what is unknown gets code -1, its label kept."""
    levels = _known_levels(memory)
    if series is None:
        unknown = np.full(size, -1, dtype=np.int64)
        return Grouping(memory.name, levels, unknown, np.full(size, None, dtype=object))
    parts = [factorize(one) for one in series]
    columns = [_of_rows(labels.astype(object), codes, None) for codes, labels in parts]
    places = [
        _of_rows(_places(labels, known), codes, -1)
        for (codes, labels), known in zip(parts, memory.labels, strict=True)
    ]
    codes = _look_up(places, memory)
    return Grouping(memory.name, levels, codes, _names(columns))


def label_rank(labels: np.ndarray) -> np.ndarray:
    """Return for every row the rank of its label in natural order, rows without a label last."""
    codes, known = factorize(pd.Series(labels, dtype=object))
    return np.where(codes < 0, len(known), codes)


def _combine(codes: Sequence[np.ndarray], sizes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the level of every row and, per level, its position in each column (n, columns)."""
    if len(codes) == 1:
        return codes[0], np.arange(sizes[0])[:, None]
    flat = np.ravel_multi_index(tuple(codes), tuple(sizes))
    found, levels = np.unique(flat, return_inverse=True)
    return levels.astype(np.int64), np.stack(np.unravel_index(found, tuple(sizes)), axis=1)


def _names(columns: Sequence[np.ndarray]) -> np.ndarray:
    """The labels of levels (n,), None where a column has none."""
    if len(columns) == 1:
        return columns[0]
    out = np.full(len(columns[0]), None, dtype=object)
    for row, parts in enumerate(zip(*columns, strict=True)):
        if None not in parts:
            out[row] = joined_label(parts)
    return out


def _of_rows(values: np.ndarray, codes: np.ndarray, otherwise: Any) -> np.ndarray:
    """The value of the label of every row, (N,)."""
    return np.append(values, np.array([otherwise], dtype=values.dtype))[codes]


def _known_levels(memory: GroupingSpecification) -> np.ndarray:
    columns = [label_array(labels) for labels in memory.labels]
    if len(columns) == 1:
        return columns[0]
    table = np.array(memory.combinations)
    return _names([labels[table[:, k]] for k, labels in enumerate(columns)])


def _places(labels: np.ndarray, known: Sequence[Any]) -> np.ndarray:
    return places_among(labels.tolist(), label_array(known))


def _look_up(places: Sequence[np.ndarray], memory: GroupingSpecification) -> np.ndarray:
    if len(places) == 1:
        return places[0]
    code = {combination: level for level, combination in enumerate(memory.combinations)}
    rows = zip(*(place.tolist() for place in places), strict=True)
    return np.array([code.get(row, -1) for row in rows], dtype=np.int64)
