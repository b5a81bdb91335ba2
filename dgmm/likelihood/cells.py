"""A = I + sum over cells of M_c, factorised: several grouping factors without a sparse library.

A cell is a distinct combination of levels, one per factor; the rows of a cell share their random
effects, so that Lambda'Z'WZ Lambda is a sum of small matrices M_c (K, K) placed on the effects of
the cell. The factor with the most levels is eliminated first: its own part of A is block diagonal,

    A = [D E'; E F],   W = E D^-1,   S = F - W E',   log det A = log det D + log det S.

Where every level lies in one cell only (nested factors) S is again a sum over cells, those of the
other factors, and the elimination goes on; otherwise S is factorised as a dense matrix. Going back,

    (A^-1)_22 = S^-1,   (A^-1)_21 = -S^-1 W,   (A^-1)_11 = D^-1 - W'(A^-1)_21,

on the cells only, which is all that gradients and conditional variances need. After Bates,
Maechler, Bolker and Walker (2015), J. Statistical Software 67(1), section 3, and the blocked
Cholesky factor of MixedModels.jl.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import linalg, sparse

from dgmm.panel import Panel

__all__ = ["Factorised", "Layout", "Plan", "lay_out", "plan", "sum_by"]

MOST_DENSE = 8000
"""Largest order of the dense part: a value then takes six seconds, a gradient half a minute."""

CELLS = 4_000_000
"""Largest number of entries of (A^-1)_21 held at once."""


def sum_by(index: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """Sums of ``values`` (n, ...) over equal ``index`` (n,): (size, ...)."""
    n = len(index)
    pick = sparse.csr_array((np.ones(n), (index, np.arange(n))), shape=(size, n))
    total: np.ndarray = pick @ values.reshape(n, -1)
    return total.reshape(size, *values.shape[1:])


@dataclass(frozen=True)
class Plan:
    """What the elimination knows before any number: cells, and those left after a factor."""

    level: np.ndarray  # (c, F) level of each cell, factors in their order of elimination
    sizes: tuple[int, ...]  # (F,) levels of each factor
    widths: tuple[int, ...]  # (F,) random effects of each level
    parent: np.ndarray | None  # (c,) cell of ``rest``, where the first factor is nested
    rest: Plan | None

    @property
    def order(self) -> int:
        """q, the number of random effects in all."""
        return int(np.dot(self.sizes, self.widths))

    @cached_property
    def positions(self) -> np.ndarray:
        """Place of each effect of a cell among all q, (c, K)."""
        spans = zip(self.level.T, self._first, self.widths, strict=True)
        return np.concatenate(
            [start + width * own[:, None] + np.arange(width) for own, start, width in spans], axis=1
        )

    @property
    def _first(self) -> list[int]:
        ends = np.cumsum([0, *np.multiply(self.sizes, self.widths)])
        return [int(end) for end in ends[:-1]]

    @cached_property
    def _scatter(self) -> sparse.csr_array:
        place = self.positions.ravel()
        entry = (np.ones(len(place)), (place, np.arange(len(place))))
        return sparse.csr_array(entry, shape=(self.order, len(place)))

    def scatter(self, values: np.ndarray) -> np.ndarray:
        """Add what cells (c, K, d) say about their effects: (q, d)."""
        total: np.ndarray = self._scatter @ values.reshape(-1, values.shape[-1])
        return total

    def factorise(self, M: np.ndarray) -> Factorised:
        """Factorise I + sum_c M_c; numpy's LinAlgError when it is not positive definite."""
        width, own = self.widths[0], self.level[:, 0]
        D = np.eye(width) + sum_by(own, M[:, :width, :width], self.sizes[0])
        L = np.linalg.cholesky(D)
        inverse = np.linalg.inv(D)
        log_det = 2 * float(np.log(np.diagonal(L, axis1=1, axis2=2)).sum())
        E = M[:, width:, :width]
        W = E @ inverse[own]
        if len(self.sizes) == 1:
            return Factorised(self, inverse, W, None, None, None, log_det)
        first = self.sizes[0] * width
        across, down = self.positions[:, :width], self.positions[:, width:] - first
        shape = (self.order - first, first)
        wide = _place(W, down, across, shape)
        if self.rest is not None:
            assert self.parent is not None
            inner = M[:, width:, width:] - W @ E.transpose(0, 2, 1)
            rest = self.rest.factorise(sum_by(self.parent, inner, len(self.rest.level)))
            return Factorised(self, inverse, W, wide, rest, None, log_det + rest.log_det)
        F = _place(M[:, width:, width:], down, down, (shape[0], shape[0]))
        S = (F - wide @ _place(E, down, across, shape).T).toarray()
        S[np.diag_indices(len(S))] += 1
        dense = np.linalg.cholesky(S)
        log_det += 2 * float(np.log(np.diag(dense)).sum())
        return Factorised(self, inverse, W, wide, None, dense, log_det)


def _place(
    blocks: np.ndarray, down: np.ndarray, across: np.ndarray, shape: tuple[int, int]
) -> sparse.csr_array:
    """Blocks (c, a, b) at rows ``down`` (c, a) and columns ``across`` (c, b), added up."""
    rows = np.broadcast_to(down[:, :, None], blocks.shape).ravel()
    columns = np.broadcast_to(across[:, None, :], blocks.shape).ravel()
    return sparse.csr_array((blocks.ravel(), (rows, columns)), shape=shape)


@dataclass(frozen=True)
class Factorised:
    """The factors of A, ready to solve and to give A^-1 on the cells."""

    plan: Plan
    inverse_first: np.ndarray  # D^-1 (m, k, k)
    W: np.ndarray  # E D^-1 by cells, (c, K - k, k)
    wide: sparse.csr_array | None  # the same as one matrix
    rest: Factorised | None
    dense: np.ndarray | None  # chol(S)
    log_det: float

    def solve(self, B: np.ndarray) -> np.ndarray:
        """A^-1 B for B (q, d)."""
        first = self.plan.sizes[0] * self.plan.widths[0]
        top = B[:first].reshape(*self.inverse_first.shape[:2], -1)
        x = (self.inverse_first @ top).reshape(first, -1)
        if self.wide is None:
            return x
        right = B[first:] - self.wide @ B[:first]
        below = self.rest.solve(right) if self.rest else linalg.cho_solve((self.dense, True), right)
        return np.concatenate([x - self.wide.T @ below, below])

    def cells(self) -> np.ndarray:
        """The blocks of A^-1 on the cells, (c, K, K)."""
        own, width = self.plan.level[:, 0], self.plan.widths[0]
        c, K = self.plan.positions.shape
        out = np.empty((c, K, K))
        first = self.inverse_first
        if self.wide is not None:
            corner, side = self._corner_and_side()
            down = self.W.transpose(0, 2, 1) @ side
            first = first - sum_by(own, down, self.plan.sizes[0])
            out[:, width:, width:] = corner
            out[:, width:, :width] = side
            out[:, :width, width:] = side.transpose(0, 2, 1)
        out[:, :width, :width] = first[own]
        return out

    def _corner_and_side(self) -> tuple[np.ndarray, np.ndarray]:
        """(A^-1)_22 and (A^-1)_21 on the cells."""
        if self.rest is not None:
            corner = self.rest.cells()[self.plan.parent]
            return corner, -corner @ self.W
        assert self.dense is not None
        assert self.wide is not None
        width, size = self.plan.widths[0], self.plan.sizes[0]
        full = _inverse(self.dense)
        others = self.plan.positions[:, width:] - size * width
        corner = full[others[:, :, None], others[:, None, :]]
        side = np.empty_like(self.W)
        own, turned = self.plan.level[:, 0], self.wide.T.tocsr()
        order = np.argsort(own, kind="stable")
        step = max(1, CELLS // (len(full) * width))
        edges = np.searchsorted(own[order], np.arange(0, size + step, step))
        for begin, low, high in zip(range(0, size, step), edges[:-1], edges[1:], strict=False):
            part = turned[begin * width : (begin + step) * width] @ full  # (step k, r)
            here = order[low:high]
            columns = (own[here] - begin)[:, None] * width + np.arange(width)
            side[here] = -part[columns[:, None, :], others[here][:, :, None]]
        return corner, side


def _inverse(factor: np.ndarray) -> np.ndarray:
    """(L L')^-1 from L."""
    lower, _ = linalg.lapack.dpotri(factor, lower=1)
    inverse: np.ndarray = np.tril(lower) + np.tril(lower, -1).T
    return inverse


def plan(level: np.ndarray, sizes: tuple[int, ...], widths: tuple[int, ...]) -> Plan:
    """Decide how to eliminate distinct cells (c, F), the factors already in order."""
    if len(sizes) > 1 and len(np.unique(level[:, 0])) == len(level):
        left, parent = np.unique(level[:, 1:], axis=0, return_inverse=True)
        return Plan(level, sizes, widths, parent.ravel(), plan(left, sizes[1:], widths[1:]))
    dense = int(np.dot(sizes[1:], widths[1:]))
    if dense > MOST_DENSE:
        raise ValueError(
            f"besides the factor with the most levels, the crossed grouping factors have {dense} "
            f"random effects together; at most {MOST_DENSE} are possible here. Use fewer random "
            "effects, or MixedModels.jl"
        )
    return Plan(level, sizes, widths, None, None)


@dataclass(frozen=True)
class Layout:
    """Where the rows of a panel, and those of a target, stand in a plan."""

    plan: Plan
    cell: np.ndarray  # (N,) cell of each row of the panel
    target: np.ndarray  # cell of each row of the target
    known: np.ndarray  # (rows of the target, K) whether the fit knows the level of an effect
    columns: np.ndarray  # (K,) which column of [T_1, T_2, ...] each effect of a cell belongs to
    factors: tuple[int, ...]  # grouping factors in their order of elimination

    def rearrange(self, Lambda: np.ndarray) -> np.ndarray:
        """Lambda (K, K) from the order of the terms to the order of elimination."""
        return Lambda[np.ix_(self.columns, self.columns)]

    def restore(self, matrix: np.ndarray) -> np.ndarray:
        """The same back."""
        out = np.empty_like(matrix)
        out[np.ix_(self.columns, self.columns)] = matrix
        return out


def lay_out(panel: Panel, target: Panel | None = None) -> Layout:
    """The plan for the levels of a panel; combinations of a ``target`` become empty cells."""
    dims = [block.shape[-1] for block in panel.rows.T]
    first = np.cumsum([0, *dims])
    factors = panel.factors(len(dims))
    of_factor = [
        np.concatenate([np.arange(first[t], first[t + 1]) for t in factor.terms])
        for factor in factors
    ]
    sizes = [len(factor.labels) for factor in factors]
    codes = np.stack([level.numpy() for level in panel.rows.level], axis=1)
    new = codes[:0]
    if target is not None:
        new = np.stack([level.numpy() for level in target.rows.level], axis=1)
    known = new >= 0
    codes = np.concatenate([codes, _stand_in(new, codes)])
    order = sorted(range(len(sizes)), key=lambda f: -sizes[f] * len(of_factor[f]))
    level, cell = np.unique(codes[:, order], axis=0, return_inverse=True)
    cell = cell.ravel()
    found = plan(level, tuple(sizes[f] for f in order), tuple(len(of_factor[f]) for f in order))
    columns = np.concatenate([of_factor[f] for f in order])
    known = np.repeat(known[:, order], found.widths, axis=1)
    n = panel.n_rows
    return Layout(found, cell[:n], cell[n:], known, columns, tuple(order))


def _stand_in(new: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Combinations (n, F) with unknown levels (-1) filled in, from the cells seen where possible.

    What stands in for an unknown level is not used; a combination that was seen adds no cell.
    """
    out = new.copy()
    for pattern in np.unique(new < 0, axis=0):
        if not pattern.any():
            continue
        rows = np.flatnonzero(((new < 0) == pattern).all(1))
        one = {tuple(row[~pattern]): row[pattern] for row in np.unique(seen, axis=0)}
        zero = np.zeros(int(pattern.sum()), dtype=new.dtype)
        filled = [one.get(tuple(row), zero) for row in new[np.ix_(rows, ~pattern)]]
        out[np.ix_(rows, pattern)] = np.stack(filled)
    return out
