"""The effects that are left once the first grouping factor is eliminated: a dense matrix.

With cells c of a level s of the first factor, E_c (b, k), W_c = E_c D_s^-1 and F_c (b, b),

    S = I + sum_c F_c - sum_s sum_{c, c' in s} W_c E_c''.

Only pairs of cells of one level meet, so S is built from their list and (S^-1 W) is read off it on
the cells: both cost as many operations as there are pairs. Where most effects meet, products of
matrices, some levels at once, have more operations and take less time.

Cholesky factor and inverse take the place of S, which is in memory once. After the sparse times
sparse products of Bates, Maechler, Bolker and Walker (2015), J. Statistical Software 67(1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from scipy import linalg

from dgmm.runtime.available import available_memory

__all__ = ["Corner", "Pairs", "check_memory", "product"]

PAIRS = 4_000_000
"""Entries of pairs of cells held at once; fewer are kept from one evaluation to the next."""

FASTER = 100
"""Operations of a product of matrices in the time that a pair takes."""


def check_memory(order: int) -> None:
    """Raise ValueError where a dense matrix of this order does not fit into memory."""
    needed, free = 8 * order**2 / 2**30, available_memory()
    if free is not None and needed > free / 2**30:
        raise ValueError(
            f"besides the factor with the most levels, the crossed grouping factors have {order} "
            f"random effects together; their part of the likelihood is a matrix of {needed:.1f} "
            f"GiB, and {free / 2**30:.1f} GiB of memory are free. Use fewer random effects or "
            "levels, or a machine with more memory"
        )


class Run(NamedTuple):
    """Pairs of different cells of one level."""

    later: slice  # cells that are the later one of a pair, in this order
    every: slice  # cells of all pairs
    partners: np.ndarray  # cells before each later one
    earlier: np.ndarray  # (P,) the other cell, among every
    place: np.ndarray  # (b, b, P) in the lower triangle of S, laid out by rows
    twice: np.ndarray | None  # (b, b, P) where both cells have the same effect; None: nowhere


@dataclass(frozen=True)
class Pairs:
    """Which effects of the corner meet in a level of the first factor."""

    position: np.ndarray  # (b, c) place of each effect of a cell in S, growing along b
    start: np.ndarray  # (c,) first cell of the level of each cell; cells are in order of levels
    order: int
    row: np.ndarray  # (k, c) place of each effect of the first factor, among its own
    alone: bool  # effects of one factor, of which different cells of a level share none

    def runs(self) -> Iterator[Run]:
        """All pairs, some at once."""
        if self._kept is not None:
            yield self._kept
            return
        last, step = 0, self._step
        while last < len(self.start):
            before = self._until[last - 1] if last else 0
            first, last = last, int(np.searchsorted(self._until, before + step, side="right"))
            last = max(last, first + 1)
            if self._until[last - 1] > before:
                yield self._run(first, last)

    @cached_property
    def dense(self) -> bool:
        """Whether products of matrices take less time."""
        rows = (self.row.max(initial=-1) + 1) * self.order**2
        pairs = int(self._until[-1]) if len(self._until) else 0
        return bool(rows < FASTER * pairs * len(self.position) ** 2)

    def slabs(self) -> Iterator[tuple[slice, int, int]]:
        """Cells of some levels at once, their first row, and how many rows they have."""
        rows, last, step = self.row, 0, max(1, PAIRS // self.order)
        while last < rows.shape[1]:
            first, low = last, int(rows[0, last])
            last = int(np.searchsorted(rows[-1], low + step))
            last = max(last, int(np.searchsorted(self.start, first, side="right")))
            yield slice(first, last), low, int(rows[-1, last - 1]) + 1 - low

    def _wide(self, blocks: np.ndarray, cells: slice, low: int, size: int) -> np.ndarray:
        """Blocks (b, k, c) of some cells as one matrix (size, order)."""
        wide = np.zeros((size, self.order))
        place = (self.row[:, cells] - low) * self.order + self.position[:, None, cells]
        np.add.at(wide.reshape(-1), place.ravel(), blocks[..., cells].ravel())
        return wide

    @property
    def _step(self) -> int:
        return max(1, PAIRS // len(self.position) ** 2)

    @cached_property
    def _until(self) -> np.ndarray:
        """Pairs up to each cell, (c,)."""
        return np.cumsum(np.arange(len(self.start)) - self.start)

    @cached_property
    def _kept(self) -> Run | None:
        few = not len(self._until) or self._until[-1] <= self._step
        return self._run(0, len(self.start)) if few else None

    def _run(self, low: int, high: int) -> Run:
        start, cell = self.start[low:high], np.arange(low, high)
        count, first = cell - start, int(start.min(initial=high))
        ends = np.cumsum(count)
        earlier = np.arange(count.sum()) - np.repeat(ends - count - start + first, count)
        own = np.repeat(self.position[:, None, low:high], count, axis=-1)
        other = np.take(self.position[None, :, first:high], earlier, axis=-1)
        if self.alone and len(self.position) == 1:
            place, twice = own * self.order + other, None
        else:
            place = np.maximum(own, other) * self.order + np.minimum(own, other)
            twice = None if self.alone else own == other
        return Run(slice(low, high), slice(first, high), count, earlier, place, twice)

    def corner(self, F: np.ndarray, W: np.ndarray, E: np.ndarray) -> Corner:
        """chol(S) from F (b, b, c), W and E (b, k, c); LinAlgError where S has none."""
        S = np.zeros((self.order, self.order))
        flat, b, own = S.reshape(-1), len(F), F
        if self.dense:
            for slab in self.slabs():
                left, right = (torch.from_numpy(self._wide(one, *slab)) for one in (W, E))
                torch.from_numpy(S).addmm_(left.mT, right, alpha=-1.0)
        else:
            own = F - np.einsum("ikc,jkc->ijc", W, E)
            self._subtract(flat, W, E)
        for i in range(b):
            for j in range(i + 1):
                np.add.at(flat, self.position[i] * self.order + self.position[j], own[i, j])
        S[np.diag_indices(self.order)] += 1
        return Corner(S)

    def _subtract(self, flat: np.ndarray, W: np.ndarray, E: np.ndarray) -> None:
        """Take W_c E_c'' of pairs of different cells from the lower triangle of S."""
        b = len(W)
        for run in self.runs():
            left = np.repeat(-W[..., run.later], run.partners, axis=-1)
            right = np.take(E[..., run.every], run.earlier, axis=-1)
            for i in range(b):
                for j in range(b):
                    value = left[i, 0] * right[j, 0]
                    for m in range(1, len(left[i])):
                        value += left[i, m] * right[j, m]
                    if run.twice is not None:
                        value *= 1 + run.twice[i, j]
                    np.add.at(flat, run.place[i, j], value)

    def blocks(self, inverse: np.ndarray) -> np.ndarray:
        """S^-1 on the cells, (b, b, c), of which the lower triangle is read."""
        rows, columns = self.position[:, None], self.position[None]
        found: np.ndarray = inverse[np.maximum(rows, columns), np.minimum(rows, columns)]
        return found

    def times(self, inverse: np.ndarray, blocks: np.ndarray, W: np.ndarray) -> np.ndarray:
        """S^-1 W on the cells, (b, k, c): ``blocks`` are those of S^-1 there."""
        if self.dense:
            return self._times_wide(inverse, W)
        out = product(blocks, W)
        flat, (b, k, _) = inverse.reshape(-1), W.shape
        for run in self.runs():
            left = np.repeat(W[..., run.later], run.partners, axis=-1)
            right = np.take(W[..., run.every], run.earlier, axis=-1)
            some = np.flatnonzero(run.partners)
            begin = (np.cumsum(run.partners) - run.partners)[some]
            later, earlier = out[..., run.later], out[..., run.every]
            for i in range(b):
                for j in range(b):
                    x = np.take(flat, run.place[i, j])
                    for m in range(k):
                        later[i, m, some] += np.add.reduceat(x * right[j, m], begin)
                        earlier[j, m] += np.bincount(run.earlier, x * left[i, m], earlier.shape[-1])
        return out

    def _times_wide(self, inverse: np.ndarray, W: np.ndarray) -> np.ndarray:
        """The product by matrices, for corners where most effects meet."""
        out = np.empty_like(W)
        for cells, low, size in self.slabs():
            wide = self._wide(W, cells, low, size)
            product = linalg.blas.dsymm(1.0, inverse.T, wide.T, lower=0)
            out[..., cells] = product[self.position[:, None, cells], self.row[:, cells] - low]
        return out


@dataclass
class Corner:
    """The factor of S, or its inverse: either takes the place of the other."""

    matrix: np.ndarray  # S at first; only the lower triangle counts
    log_det: float = field(init=False)
    _inverted: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        upper = torch.from_numpy(self.matrix).mT
        failed = torch.zeros((), dtype=torch.int32)
        torch.linalg.cholesky_ex(upper, upper=True, out=(upper, failed))
        if int(failed):
            raise np.linalg.LinAlgError("a precision of random effects is not positive definite")
        self.log_det = 2 * float(np.log(np.diag(self.matrix)).sum())

    def inverse(self) -> np.ndarray:
        """S^-1, whose lower triangle counts; the factor is gone."""
        if not self._inverted:
            upper = torch.from_numpy(self.matrix).mT
            torch.cholesky_inverse(upper, upper=True, out=upper)
            self._inverted = True
        return self.matrix

    def root(self, B: np.ndarray) -> np.ndarray:
        """R B for B (r, d), R R' = S^-1."""
        if self._inverted:
            return np.asarray(np.linalg.cholesky(self.matrix) @ B)
        solution: np.ndarray = linalg.solve_triangular(
            self.matrix.T, B, lower=False, check_finite=False
        )
        return solution

    def solve(self, B: np.ndarray) -> np.ndarray:
        """S^-1 B, B (r, d)."""
        if self._inverted:
            product: np.ndarray = linalg.blas.dsymm(1.0, self.matrix.T, B, lower=0)
            return product
        solution: np.ndarray = linalg.cho_solve((self.matrix.T, False), B, check_finite=False)
        return solution


def product(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """A_c B_c of every cell, A (a, j, c), B (j, b, c)."""
    found: np.ndarray = np.einsum("ajc,jbc->abc", A, B)
    return found
