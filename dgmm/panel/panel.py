"""Design -> Panel: measurements grouped by subject, as float64 tensors. Torch begins here.

Storage is long (one entry per measurement, subjects contiguous), so unequal n_i cost nothing.
Calculations ask for a :class:`Block`: some subjects padded to a common number of measurements J,
with the mask of the real ones. With several grouping factors the subjects are those of the first,
and every row knows its level in each.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgmm.design import Design, label_key, places_among
from dgmm.families import Observations
from dgmm.panel.crossing import Crossing, Factor, crossing_of
from dgmm.panel.rows import Block, Rows, Stack
from dgmm.panel.stack import Beside, stacked
from dgmm.panel.sums import Sums
from dgmm.runtime.absent import Absent

__all__ = ["Panel"]


MANY = 4
"""Outcomes of a row that count as one entry of a block."""


@dataclass(frozen=True)
class Panel:
    """All measurements, subjects contiguous; ``count`` may be zero for a subject.

    ``masked``: rows without an outcome are there, for the states of paths, but count in no density.
    """

    ids: np.ndarray  # (n,) plain labels, in new data None where there is none
    subject: Tensor  # (N,)
    start: Tensor  # (n,)
    count: Tensor  # (n,)
    observed: Tensor  # (N,) bool: the outcome was seen
    rows: Rows
    crossing: Crossing | None = None  # with several grouping factors; subjects are the first one's
    masked: bool = False
    beside: tuple[Panel, ...] = ()  # further outcomes: the same subjects in the same order
    sums: Sums | None = None  # of the rows, where these are not in memory

    @classmethod
    def of_sums(cls, ids: np.ndarray, sums: Sums, time: tuple[float, float] | None) -> Panel:
        """A panel without rows, with the sums over those of every subject.

        time: the least and the largest time of the rows, if there is one.
        """
        ends = torch.tensor(time or (), dtype=torch.float64)
        nothing, none = torch.zeros(0, dtype=torch.long), torch.zeros(len(ids), dtype=torch.long)
        rows: Any = Absent({"time": ends, "inputs": (), "Z": (), "level": ()})
        return cls(ids, nothing, none, none, nothing.bool(), rows, sums=sums)

    @property
    def panels(self) -> tuple[Panel, ...]:
        """One for every outcome."""
        return (self, *self.beside)

    @property
    def n(self) -> int:
        """Number of subjects."""
        return len(self.ids)

    @property
    def several(self) -> bool:
        """Several grouping factors: subjects, those of the first, are not independent."""
        return self.crossing is not None

    def factors(self, terms: int) -> list[Factor]:
        """The grouping factors of ``terms`` latent terms."""
        found = self.crossing
        if found is None:
            return [Factor("", self.ids, list(range(terms)))]
        pairs = zip(found.names, found.labels, strict=True)
        return [Factor(name, labels, found.terms(f)) for f, (name, labels) in enumerate(pairs)]

    @property
    def keys(self) -> list[int]:
        """A number for every id: draws seeded by it do not depend on the other subjects."""
        return [zlib.crc32(label_key(one).encode()) for one in self.ids.tolist()]

    @property
    def seen(self) -> Tensor:
        """Positions of the subjects with an outcome of any kind, ascending."""
        return torch.cat([one.subject[one.observed] for one in self.panels]).unique()

    @property
    def n_rows(self) -> int:
        """Number of measurements, planned ones with a missing outcome included."""
        return len(self.subject) if self.sums is None else self.sums.planned

    @property
    def n_seen(self) -> int:
        """Number of outcomes seen."""
        return int(self.observed.sum()) if self.sums is None else self.sums.seen

    @property
    def longest(self) -> int:
        """The most rows of a subject; of several outcomes rows at one time are one."""
        if not self.beside:
            return int(self.count.max())
        who = torch.cat([one.subject for one in self.panels])
        when = torch.cat([one.rows.time[: one.n_rows] for one in self.panels])
        pairs = np.unique(torch.stack([who.double(), when], 1).numpy(), axis=0)
        return int(np.bincount(pairs[:, 0].astype(int), minlength=1).max())

    @cached_property
    def whole(self) -> tuple[Block, ...]:
        """Blocks of all rows, of a masked panel those too that were not seen."""
        return tuple(replace(self, masked=False).blocks())

    @cached_property
    def stack(self) -> Stack | None:
        """The outcomes as columns, where all were measured in the same rows."""
        return None if self.several or self.sums is not None else stacked(self.panels)

    @property
    def outcomes(self) -> Tensor:
        """Number of outcomes seen of every subject, (n,)."""
        if self.sums is not None:
            return self.sums.count
        if bool(self.observed.all()):
            return self.count
        return torch.bincount(self.subject[self.observed], minlength=self.n)

    @classmethod
    def from_design(cls, design: Design) -> Panel:
        """Group the rows of a design (already sorted by subject) by its first grouping factor."""
        start, ids = _subjects(design)
        count = np.diff(np.append(start, design.n_rows))
        subject = np.repeat(np.arange(len(start)), count)
        tensor = torch.from_numpy
        basis = [block.basis or block.columns for block in design.latents]
        crossing, levels = crossing_of(design)
        rows = Rows(
            Observations(*(tensor(v) for v in (design.y, design.trials, design.weights))),
            tensor(design.offset),
            tensor(design.fixed.matrix),
            tuple(tensor(block.columns.matrix) for block in design.networks),
            tuple(tensor(block.columns.matrix) for block in design.latents),
            tuple(tensor(block.matrix) for block in basis),
            tuple(tensor(columns.matrix) for columns in design.parts.values()),
            tensor(np.asarray(design.time, dtype=float)),
            tensor(np.arange(len(subject)) - start[subject]),
            levels,
            tuple(_steady(block.columns.matrix, subject, start) for block in design.networks),
        )
        return cls(
            ids=ids,
            subject=tensor(subject),
            start=tensor(start),
            count=tensor(count),
            observed=~torch.isnan(rows.data.y),
            rows=rows,
            crossing=crossing,
        )

    def numbered(self, rows: np.ndarray) -> Panel:
        """The same rows with their positions (N,) in a frame for occasions.

        Rows of several outcomes at one position are one row.
        """
        occasion = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.int64))
        return replace(self, rows=replace(self.rows, occasion=occasion))

    def observed_rows(self) -> Panel:
        """The same subjects with only the measurements whose outcome was seen.

        A masked panel keeps all of them.
        """
        if self.masked:
            return self
        seen = self.keep(self.observed)
        if not self.beside:
            return seen
        return replace(seen, beside=tuple(one.observed_rows() for one in self.beside))

    def seen_rows(self) -> Panel:
        """Only the measurements whose outcome was seen, of a masked panel too."""
        beside = tuple(replace(one, masked=False) for one in self.beside)
        return replace(self, masked=False, beside=beside).observed_rows()

    def masked_rows(self) -> Panel:
        """The same measurements, of which only those whose outcome was seen count in a density.

        Outcomes that were not seen are replaced by one that was, so that nothing becomes NaN.
        """
        beside = tuple(one.masked_rows() for one in self.beside)
        if not self.n_rows:
            return replace(self, beside=beside)
        seen, data = self.observed.int().argmax(), self.rows.data
        filled = Observations(*(torch.where(self.observed, v, v[seen]) for v in data))
        return replace(self, rows=replace(self.rows, data=filled), masked=True, beside=beside)

    def joined(self, target: Panel, stand_in: Observations) -> tuple[Panel, Tensor]:
        """The rows here and those of ``target`` by subject and time, and where the latter stand.

        Both panels have the same subjects in the same order. The panel is a masked one, in which
        the outcomes of ``target`` count as not seen: its rows are there for the states of paths.
        Of several outcomes it is the first that has rows in ``target``.

        stand_in: some outcomes (R,) of the family, of which the first takes their place.

        Raises:
            ValueError: there are several grouping factors.
        """
        if self.several:
            raise ValueError("rows are joined by time for one grouping factor")
        data = Observations(*(column[:1].expand(target.n_rows) for column in stand_in))
        there = replace(target.rows.take(torch.arange(target.n_rows)), data=data)
        rows = self.rows.take(torch.arange(self.n_rows)).followed_by(there)
        subject, count = torch.cat([self.subject, target.subject]), self.count + target.count
        order = torch.from_numpy(np.lexsort((rows.time.numpy(), subject.numpy())))
        unseen = torch.zeros(target.n_rows, dtype=torch.bool)
        both = Panel(
            self.ids,
            subject[order],
            torch.cumsum(count, 0) - count,
            count,
            torch.cat([self.observed, unseen])[order],
            rows.take(order),
            masked=True,
            beside=self.beside,
        )
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order))
        return both, place[self.n_rows :]

    def keep(self, which: Tensor) -> Panel:
        """The same subjects with only some rows ``which`` (N,) of the first outcome."""
        if bool(which.all()):
            return self
        kept = torch.nonzero(which)[:, 0]
        subject = self.subject[kept]
        count = torch.bincount(subject, minlength=self.n)
        start = torch.cumsum(count, 0) - count
        return replace(
            self,
            subject=subject,
            start=start,
            count=count,
            observed=self.observed[kept],
            rows=self._rows_at(kept),
        )

    def select(self, subjects: np.ndarray | Tensor) -> Panel:
        """A panel of some subjects, in the order given."""
        chosen = torch.as_tensor(subjects, dtype=torch.long)
        count = self.count[chosen]
        start = torch.cumsum(count, 0) - count
        subject = torch.repeat_interleave(torch.arange(len(chosen)), count)
        index = self.start[chosen][subject] + torch.arange(len(subject)) - start[subject]
        return replace(
            self,
            ids=self.ids[chosen.numpy()],
            subject=subject,
            start=start,
            count=count,
            observed=self.observed[index],
            rows=self._rows_at(index),
            beside=tuple(one.select(subjects) for one in self.beside),
        )

    def regrouped(self, terms: Sequence[int]) -> Panel:
        """The panel of some of the latent terms: grouping factors of no term leave.

        Where one factor is left its levels become the subjects and rows are sorted by them.
        """
        old = self.crossing
        if old is None:
            return self
        kept = sorted({old.factor[term] for term in terms})
        labels = tuple(old.labels[f] for f in kept)
        levels = tuple(self.rows.level[f] for f in kept)
        order = torch.argsort(levels[0], stable=True)
        subject = levels[0][order]
        count = torch.bincount(subject, minlength=len(labels[0]))
        start = torch.cumsum(count, 0) - count
        several = len(kept) > 1
        factor = tuple(kept.index(old.factor[term]) for term in terms)
        rows = replace(
            self.rows.take(order),
            occasion=torch.arange(len(order)) - start[subject],
            level=tuple(level[order] for level in levels) if several else (),
        )
        crossing = Crossing(tuple(old.names[f] for f in kept), labels, factor) if several else None
        return Panel(labels[0], subject, start, count, self.observed[order], rows, crossing)

    def _rows_at(self, index: Tensor) -> Rows:
        """Rows at ``index``; padding repeats a real row, so one stays even when none counts."""
        return self.rows.take(index if len(index) else torch.zeros(1, dtype=torch.long))

    def with_outcome(self, y: Tensor) -> Panel:
        """The same measurements with other values (N,) of the first outcome."""
        return self.with_data(self.rows.data._replace(y=y))

    def with_data(self, data: Observations) -> Panel:
        """The same measurements with other values, trials and weights of the first outcome."""
        seen = ~torch.isnan(data.y)
        observed = self.observed & seen if self.masked else seen
        return replace(self, rows=replace(self.rows, data=data), observed=observed)

    def align(self, ids: np.ndarray) -> Panel:
        """The subjects ``ids`` in their order; those unknown here come without measurements.

        A subject without a label (None) is like no other.
        """
        where = places_among(ids.tolist(), self.ids)
        known = np.flatnonzero(where >= 0)
        chosen = self.select(where[known]) if self.sums is None else self._stand_in(where[known])
        count = torch.zeros(len(ids), dtype=torch.long)
        count[known] = chosen.count
        subject = torch.from_numpy(known)[chosen.subject]
        start = torch.cumsum(count, 0) - count
        beside = tuple(one.align(ids) for one in self.beside)
        return replace(chosen, ids=ids, subject=subject, start=start, count=count, beside=beside)

    def _stand_in(self, at: np.ndarray) -> Panel:
        """Some subjects with rows that have their sums: what is known of b is the same."""
        assert self.sums is not None
        rows, count = self.sums.rows(at)
        start = torch.cumsum(count, 0) - count
        subject = torch.repeat_interleave(torch.arange(len(at)), count)
        seen = torch.ones(len(subject), dtype=torch.bool)
        if not len(subject):  # one row stays, which counts for nobody
            rows = rows.like(tuple(torch.zeros(1, *c.shape[1:]) for c in rows.columns()))
        return Panel(self.ids[at], subject, start, count, seen, rows)

    def block(self, subjects: Tensor) -> Block:
        """Pad the measurements of ``subjects`` (positions) to a common length."""
        count = self.count[subjects]
        longest = max(int(count.max()), 1)
        occasion = torch.arange(longest)
        mask = occasion < count[:, None]
        first = self.start[subjects].clamp(max=len(self.subject) - 1)[:, None]
        index = torch.where(mask, first + occasion, first)
        counted = mask & self.observed[index] if self.masked else mask
        beside = Beside(self, subjects, index, mask) if self.beside else ()
        return Block(subjects, counted, index, self.rows.take(index), count > 0, beside)

    def blocks(self, cells: int = 200_000) -> Iterator[Block]:
        """All subjects in blocks of similar n_i, each of at most ``cells`` padded entries.

        Of many outcomes fewer rows are held at once.
        """
        cells //= max(1, len(self.panels) // MANY)
        order = torch.argsort(self.count, stable=True)
        sizes = self.count[order].clamp(min=1).numpy()
        first = 0
        while first < self.n:
            last = first + 1
            # padding at most doubles the smallest subject of the block
            limit = max(2 * sizes[first], 8)
            while last < self.n and sizes[last] <= limit:
                if sizes[last] * (last + 1 - first) > cells:
                    break
                last += 1
            yield self.block(order[first:last])
            first = last


def _steady(matrix: np.ndarray, subject: np.ndarray, start: np.ndarray) -> bool:
    """Whether all columns (N, r) are constant within every subject."""
    return bool(np.array_equal(matrix, matrix[start][subject]))


def _subjects(design: Design) -> tuple[np.ndarray, np.ndarray]:
    """First row and label of every subject, in the order of the rows."""
    grouping = design.latents[0].grouping
    codes, levels, known = grouping.codes, grouping.levels, grouping.codes >= 0
    change = np.ones(len(codes), dtype=bool)
    if known.all():
        change[1:] = codes[1:] != codes[:-1]
        start = np.flatnonzero(change)
        return start, levels[codes[start]]
    labels = grouping.labels.astype(object)
    labels[known] = levels[codes[known]]
    change[1:] = np.asarray(labels[1:] != labels[:-1])
    start = np.flatnonzero(change)
    return start, labels[start]
