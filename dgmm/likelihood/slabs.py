"""The rows of a panel as slabs (J, n): subjects along the contiguous axis, a cache's worth each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from dgmm.families import Observations
from dgmm.panel import Panel

__all__ = ["Slab", "slabs"]


@dataclass(frozen=True)
class Slab:
    """Measurements of n subjects, measurement by measurement; padding has weight zero."""

    subjects: slice | np.ndarray  # their positions in the panel
    rows: slice | Tensor  # their long rows: a slice when balanced, else an index (J, n)
    shape: tuple[int, int]  # J, n
    mask: Tensor | None  # (J, n) of 0 and 1, None when nothing is padded
    data: Observations  # (J, n), or (1, 1) where all are equal
    T: tuple[Tensor | None, ...]  # columns of the random part (J, n), None for a column of ones

    @cached_property
    def most(self) -> tuple[np.ndarray | None, ...]:
        """The largest |T| of every subject, (n,)."""
        return tuple(None if T is None else T.abs().amax(0).numpy() for T in self.T)

    def gather(self, long: Tensor) -> Tensor:
        """Values of the long rows (N,) or (N, c) as (J, n) or (J, n, c)."""
        if isinstance(self.rows, slice):
            J, n = self.shape
            block = long[self.rows].reshape(n, J, *long.shape[1:])
            return block.transpose(0, 1).contiguous()
        return long[self.rows]

    def scatter(self, values: Tensor, long: Tensor) -> None:
        """Write (J, n) values to their long rows; what is padded must be zero."""
        if isinstance(self.rows, slice):
            J, n = self.shape
            long[self.rows].view(n, J).copy_(values.T)
        else:
            long.index_put_((self.rows.reshape(-1),), values.reshape(-1), accumulate=True)

    def masked(self, values: Tensor) -> Tensor:
        """The values with zero in the padding, (..., J, n)."""
        return values if self.mask is None else values * self.mask


def slabs(panel: Panel, columns: list[Tensor], cells: int) -> Iterator[Slab]:
    """All subjects with measurements, in slabs of about ``cells`` entries.

    ``columns``: the columns of the random part, long (N,).
    """
    ones = [bool((column == 1).all()) for column in columns]
    constant = [bool((c == c[0]).all()) if len(c) else True for c in panel.rows.data]
    count = panel.count.numpy()
    order = np.argsort(count, kind="stable")
    order = order[count[order] > 0]
    first = 0
    while first < len(order):
        smallest = int(count[order[first]])
        size = max(1, cells // max(smallest, 1))
        chosen = order[first : first + size]
        largest = np.searchsorted(count[chosen], max(smallest + smallest // 4, 4), side="right")
        chosen = np.sort(chosen[: max(int(largest), 1)])
        first += len(chosen)
        yield _slab(panel, columns, ones, constant, chosen)


def _slab(
    panel: Panel,
    columns: list[Tensor],
    ones: list[bool],
    constant: list[bool],
    chosen: np.ndarray,
) -> Slab:
    count = panel.count[chosen]
    J, n = int(count.max()), len(chosen)
    full = bool((count == J).all())
    adjacent = int(chosen[-1]) - int(chosen[0]) + 1 == n
    mask: Tensor | None = None
    rows: slice | Tensor
    if full and adjacent:
        begin = int(panel.start[chosen[0]])
        rows = slice(begin, begin + n * J)
        subjects: slice | np.ndarray = slice(int(chosen[0]), int(chosen[-1]) + 1)
    else:
        occasion = torch.arange(J)[:, None]
        inside = occasion < count
        rows = panel.start[chosen] + torch.minimum(occasion, count - 1)
        subjects = chosen
        mask = None if full else inside.double()
    empty = Slab(subjects, rows, (J, n), mask, panel.rows.data, ())
    data = Observations(
        *(
            column[:1].reshape(1, 1) if equal and place else empty.gather(column)
            for place, (column, equal) in enumerate(zip(panel.rows.data, constant, strict=True))
        )
    )
    T = tuple(None if one else empty.gather(c) for c, one in zip(columns, ones, strict=True))
    return Slab(subjects, rows, (J, n), mask, data, T)
