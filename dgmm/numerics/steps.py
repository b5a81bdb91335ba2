"""Rows of several series in the order in which all series take their next step together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["Steps"]


@dataclass(frozen=True)
class Steps:
    """The rows of several series, packed: all first rows, then all second rows, and so on.

    Series stand by falling length, so those that have a j-th row are the first ``sizes[j]``.
    """

    sizes: np.ndarray  # (J,)
    order: np.ndarray  # (n,) which series stands where; those without rows are last
    rows: np.ndarray  # (N,) the row of every packed one, the rows of a series lying together

    @classmethod
    def of(cls, count: np.ndarray) -> Steps:
        """The steps of series with ``count`` (n,) rows, which lie one after the other."""
        order = np.argsort(-count, kind="stable")
        longest = int(count.max(initial=0))
        lengths = count[order]
        sizes = len(count) - np.searchsorted(lengths[::-1], np.arange(longest), side="right")
        start = (np.cumsum(count) - count)[order]
        parts = [start[:n] + j for j, n in enumerate(sizes)]
        return cls(sizes, order, np.concatenate([*parts, np.zeros(0, dtype=int)]))

    @cached_property
    def back(self) -> np.ndarray:
        """The packed place of every row, (N,)."""
        place = np.empty(len(self.rows), dtype=int)
        place[self.rows] = np.arange(len(self.rows))
        return place

    @cached_property
    def series(self) -> np.ndarray:
        """The series of every packed row, by its place in ``order``, (N,)."""
        return np.concatenate([*(np.arange(n) for n in self.sizes), np.zeros(0, dtype=int)])

    @cached_property
    def before(self) -> np.ndarray:
        """The packed row before every one; that of a first row is itself, (N,)."""
        starts = np.cumsum(self.sizes) - self.sizes
        earlier = np.concatenate([starts[:1], starts[:-1]])
        return np.repeat(earlier, self.sizes) + self.series

    @property
    def first(self) -> slice:
        """The first rows."""
        return slice(0, int(self.sizes[0]) if len(self.sizes) else 0)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """The rows of every step."""
        ends = np.cumsum(self.sizes)
        return tuple(slice(int(e - n), int(e)) for e, n in zip(ends, self.sizes, strict=True))

    def backwards(self) -> Iterator[tuple[int, slice, slice]]:
        """Every step from the last: how many go on after it, its rows, those that follow."""
        following, more = slice(0, 0), 0
        for at in reversed(self.slices):
            yield more, at, following
            following, more = at, at.stop - at.start
