"""What the rows of a subject together say: the columns that `cre(id, ~ x)` gives its effects.

    mundlak       xbar_i, the means over the rows of i
    chamberlain   x_i1, ..., x_iT, the values at every time of a balanced panel

Means are over the rows with an outcome, which are those that the likelihood knows; of a subject
without any, over all. They are learnt at the fit and stand for its subjects in any new rows; other
subjects bring their own, and a row without a subject gets the average over the rows of the fit.
Mundlak (1978), Econometrica 46, 69-85; Chamberlain (1982), J. Econometrics 18, 5-46.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from dgmm.design.encoding import Columns
from dgmm.design.grouping import Grouping
from dgmm.design.labels import factorize, label_key

__all__ = ["Between", "Subjects", "beside"]


@dataclass(frozen=True)
class Subjects:
    """The subjects of some rows."""

    group: str
    keys: tuple[str, ...]  # (n,) of their labels
    codes: np.ndarray  # (N,) -1 a row without a subject
    seen: np.ndarray  # (N,) bool, rows with an outcome
    time: np.ndarray  # (N,) by which the rows of a subject are told apart
    moments: tuple[str, ...] = ()  # of times that are categories, 0, 1, ..., their names

    @classmethod
    def of(
        cls,
        grouping: Grouping,
        seen: np.ndarray,
        rows: np.ndarray,
        time: np.ndarray | None,
        moments: tuple[str, ...] = (),
    ) -> Subjects:
        """The subjects of a grouping factor.

        rows: (N,) positions in the user's frame, whose order within subjects stands for a time.
        """
        codes, labels = factorize(pd.Series(grouping.labels, dtype=object))
        keys = tuple(label_key(one) for one in labels.tolist())
        time = _order(codes, rows) if time is None else time
        return cls(grouping.name, keys, codes, seen, time, moments)

    def moment(self, time: float) -> str:
        """The name of a time."""
        return self.moments[int(time)] if self.moments else f"{time:g}"

    def among(self, kept: np.ndarray) -> Subjects:
        """Those whose code is one of ``kept``, and their rows."""
        at = np.isin(self.codes, kept)
        place = np.full(len(self.keys), -1)
        place[kept] = np.arange(len(kept))
        return Subjects(
            self.group,
            tuple(self.keys[k] for k in kept),
            place[self.codes[at]],
            self.seen[at],
            self.time[at],
            self.moments,
        )

    def means(self, matrix: np.ndarray) -> np.ndarray:
        """The means (n, p) of columns (N, p)."""
        weight = self.counted
        total = np.zeros((len(self.keys), matrix.shape[1]))
        np.add.at(total, self.codes[weight], matrix[weight])
        return total / np.bincount(self.codes[weight], minlength=len(self.keys))[:, None]

    @property
    def counted(self) -> np.ndarray:
        """The rows that count in a mean, (N,) bool."""
        own = self.codes >= 0
        some = np.bincount(self.codes[own & self.seen], minlength=len(self.keys)) > 0
        return own & (self.seen | ~np.append(some, True)[self.codes])

    def paths(self, matrix: np.ndarray, times: Sequence[float]) -> np.ndarray:
        """The values (n, T p) of columns (N, p) at every time, those of a column together.

        Raises:
            ValueError: a subject has not one row at every time.
        """
        own = self.codes >= 0
        place = np.minimum(np.searchsorted(times, self.time[own]), len(times) - 1)
        known = np.asarray(times)[place] == self.time[own]
        count = np.zeros((len(self.keys), len(times)), dtype=int)
        np.add.at(count, (self.codes[own][known], place[known]), 1)
        wrong = np.flatnonzero((count != 1).any(axis=1) | ~self._within(own, known))
        if len(wrong):
            key, rows = self.keys[wrong[0]], int((self.codes == wrong[0]).sum())
            raise ValueError(
                f"device='chamberlain' needs every `{self.group}` once at each of {len(times)} "
                f"times, and {key!r} has {rows} rows, so that the panel is not balanced: use the "
                "means (device='mundlak'), which any panel has"
            )
        found = np.empty((len(self.keys), len(times), matrix.shape[1]))
        found[self.codes[own], place] = matrix[own]
        return found.transpose(0, 2, 1).reshape(len(self.keys), -1)

    def _within(self, own: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Whether all rows of a subject are at a time that is known, (n,) bool."""
        return np.bincount(self.codes[own][~known], minlength=len(self.keys)) == 0


@dataclass(frozen=True)
class Between:
    """Columns of the subjects of the fit, by the key of their label, and their average.

    sources: of every column the one of the rows that it is made of. times: of values over time.
    """

    names: tuple[str, ...]
    sources: tuple[int, ...]
    times: tuple[float, ...]
    values: dict[str, tuple[float, ...]]
    average: tuple[float, ...]

    @classmethod
    def learn(cls, columns: Columns, subjects: Subjects, device: str = "mundlak") -> Between:
        """The columns of all subjects of the fit."""
        size, group = len(columns.names), subjects.group
        times: tuple[float, ...] = ()
        names, sources = tuple(f"mean({n} | {group})" for n in columns.names), list(range(size))
        if device == "chamberlain":
            times = tuple(np.unique(subjects.time[subjects.codes >= 0]).tolist())
            said = [subjects.moment(t) for t in times]
            names = tuple(f"{n}[{t} | {group}]" for n in columns.names for t in said)
            sources = np.repeat(np.arange(size), len(times)).tolist()
        empty = cls(names, tuple(sources), times, {}, ())
        found = empty.with_subjects(columns, subjects)
        weight = np.bincount(subjects.codes[subjects.seen], minlength=len(subjects.keys))
        average = weight @ np.array(list(found.values.values())).reshape(len(weight), -1)
        return replace(found, average=tuple((average / weight.sum()).tolist()))

    def with_subjects(self, columns: Columns, subjects: Subjects) -> Between:
        """The same, with the subjects that are not among its own."""
        new = np.array([k for k, key in enumerate(subjects.keys) if key not in self.values], int)
        if not len(new):
            return self
        own, matrix = subjects.among(new), columns.matrix[np.isin(subjects.codes, new)]
        found = own.paths(matrix, self.times) if self.times else own.means(matrix)
        more = dict(zip(own.keys, map(tuple, found.tolist()), strict=True))
        return replace(self, values={**self.values, **more})

    def rows(self, columns: Columns, subjects: Subjects) -> Columns:
        """The columns of every row, (N, m), those of its subject."""
        table = np.array([*(self.values[key] for key in subjects.keys), self.average])
        matrix = table.reshape(-1, len(self.names))[subjects.codes]
        used = [columns.variables[k] for k in self.sources]
        return Columns(
            matrix,
            self.names,
            tuple(frozenset(_mean_of(name, subjects) for name in one) for one in used),
            tuple(_mean_of(columns.terms[k], subjects) for k in self.sources),
        )


def beside(one: Columns, other: Columns) -> Columns:
    """The columns of both.

    Raises:
        ValueError: two of them have one name.
    """
    twice = set(one.names) & set(other.names)
    if twice:
        raise ValueError(f"`{min(twice)}` stands twice: give the covariate in one cre() only")
    return Columns(
        np.column_stack([one.matrix, other.matrix]),
        one.names + other.names,
        one.variables + other.variables,
        one.terms + other.terms,
        one.categories,
    )


def _mean_of(name: str, subjects: Subjects) -> str:
    """What stands for a covariate in a column of the subjects, which is no covariate of a row."""
    return f"mean({name} | {subjects.group})"


def _order(codes: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """1, 2, ... within every subject, in the order of the rows of the frame."""
    order = np.lexsort([rows, codes])
    first = np.flatnonzero(np.append(True, np.diff(codes[order]) != 0))
    length = np.diff(np.append(first, len(codes)))
    rank = np.empty(len(codes))
    rank[order] = np.arange(len(codes)) - np.repeat(first, length) + 1
    return rank
