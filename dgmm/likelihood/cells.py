"""A = I + sum over cells of M_c, factorised: several grouping factors without a sparse library.

A cell is a distinct combination of levels, one per factor; the rows of a cell share their random
effects, so that Lambda'Z'WZ Lambda is a sum of small matrices M_c (K, K) placed on the effects of
the cell. Arrays keep cells on the last, contiguous axis. The factor with the most levels is
eliminated first: its own part of A is block diagonal,

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
from scipy import sparse

from dgmm.likelihood.corner import Corner, Pairs, check_memory, product
from dgmm.numerics.cholesky import cholesky, log_det, solve
from dgmm.panel import Panel

__all__ = ["Factorised", "Layout", "Plan", "lay_out", "plan", "products_by", "sum_by", "turned"]

MOST_KEYS = 2**62
"""Most combinations of levels that one number can tell apart."""


def sum_by(index: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """Sums of ``values`` (..., n) over equal ``index`` (n,): (..., size)."""
    rows = values.reshape(-1, len(index))
    total = np.array([np.bincount(index, row, minlength=size) for row in rows])
    return total.reshape(*values.shape[:-1], size)


def products_by(cell: np.ndarray, left: np.ndarray, right: np.ndarray, plan: Plan) -> np.ndarray:
    """Sums of left_i right_i' over the rows of every cell, (K, K, c), where they are symmetric.

    left, right: (K, N), equal but for a weight of every row.
    """
    out = np.empty((len(left), len(left), len(plan.level)))
    for k, own in enumerate(left):
        out[k, : k + 1] = out[: k + 1, k] = sum_by(cell, own * right[: k + 1], len(plan.level))
    return out


def turned(Lambda: np.ndarray, G: np.ndarray) -> np.ndarray:
    """Lambda'G_c Lambda of every cell, (K, K, c)."""
    half = Lambda.T @ G  # G symmetric: [i, k] is (G Lambda)_ik
    found: np.ndarray = Lambda.T @ half.swapaxes(0, 1)
    return found


@dataclass(frozen=True)
class Plan:
    """What the elimination knows before any number: cells, and those left after a factor."""

    level: np.ndarray  # (c, F) level of each cell, sorted, factors in their order of elimination
    sizes: tuple[int, ...]  # (F,) levels of each factor
    widths: tuple[int, ...]  # (F,) random effects of each level
    parent: np.ndarray | None  # (c,) cell of ``rest``, where the first factor is nested
    rest: Plan | None

    @property
    def order(self) -> int:
        """q, the number of random effects in all."""
        return int(np.dot(self.sizes, self.widths))

    @property
    def eliminated(self) -> int:
        """Random effects of the first factor."""
        return self.sizes[0] * self.widths[0]

    @cached_property
    def positions(self) -> np.ndarray:
        """Place of each effect of a cell among all q, (K, c)."""
        spans = zip(self.level.T, self.first, self.widths, strict=True)
        return np.concatenate(
            [start + width * own + np.arange(width)[:, None] for own, start, width in spans]
        )

    @property
    def first(self) -> list[int]:
        """Place of the first effect of each factor."""
        ends = np.cumsum([0, *np.multiply(self.sizes, self.widths)])
        return [int(end) for end in ends[:-1]]

    @cached_property
    def pairs(self) -> Pairs:
        """Pairs of cells that share a level of the first factor."""
        own = self.level[:, 0]
        start = np.searchsorted(own, own)
        left = self.positions[self.widths[0] :] - self.eliminated
        row = self.positions[: self.widths[0]]
        return Pairs(left, start, self.order - self.eliminated, row, alone=len(self.sizes) == 2)

    @cached_property
    def across(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Order of entries, columns and ends of rows of a sparse matrix of blocks (b, k, c).

        Rows are the effects of the first factor, columns those that are left.
        """
        width = self.widths[0]
        row, column = self.positions[:width], self.positions[width:] - self.eliminated
        shape = (len(column), width, len(self.level))
        rows = np.broadcast_to(row[None], shape).ravel()
        order = np.argsort(rows, kind="stable")
        ends = np.searchsorted(rows[order], np.arange(self.eliminated + 1))
        return order, np.broadcast_to(column[:, None], shape).ravel()[order], ends

    def scatter(self, values: np.ndarray) -> np.ndarray:
        """Add what cells (K, c) say about their effects: (q,)."""
        return np.bincount(self.positions.ravel(), values.ravel(), minlength=self.order)

    def factorise(self, M: np.ndarray) -> Factorised:
        """Factorise I + sum_c M_c, M (K, K, c); LinAlgError when it is not positive definite."""
        width, own = self.widths[0], self.level[:, 0]
        identity = np.eye(width)[:, :, None]
        D = identity + sum_by(own, M[:width, :width], self.sizes[0])
        L = cholesky(D)
        inverse = solve(L, np.broadcast_to(identity, D.shape))
        whole = float(log_det(L).sum())
        if not np.isfinite(whole):
            raise np.linalg.LinAlgError("a precision of random effects is not positive definite")
        E = M[width:, :width]
        W = product(E, np.take(inverse, own, axis=-1))
        if len(self.sizes) == 1:
            return Factorised(self, inverse, W, None, None, whole)
        if self.rest is not None:
            assert self.parent is not None
            inner = M[width:, width:] - product(W, E.swapaxes(0, 1))
            rest = self.rest.factorise(sum_by(self.parent, inner, len(self.rest.level)))
            return Factorised(self, inverse, W, rest, None, whole + rest.log_det)
        corner = self.pairs.corner(M[width:, width:], W, E)
        return Factorised(self, inverse, W, None, corner, whole + corner.log_det)


@dataclass(frozen=True)
class Factorised:
    """The factors of A, ready to solve and to give A^-1 on the cells."""

    plan: Plan
    inverse_first: np.ndarray  # D^-1 (k, k, m)
    W: np.ndarray  # E D^-1 by cells, (K - k, k, c)
    rest: Factorised | None
    corner: Corner | None  # S
    log_det: float

    @cached_property
    def across(self) -> sparse.csr_array | None:
        """W' as one matrix; None where the first factor is the only one."""
        if not len(self.W):
            return None
        order, column, ends = self.plan.across
        shape = (self.plan.eliminated, self.plan.order - self.plan.eliminated)
        return sparse.csr_array((self.W.ravel()[order], column, ends), shape=shape)

    def solve(self, B: np.ndarray) -> np.ndarray:
        """A^-1 B for B (q, d)."""
        first, width = self.plan.eliminated, self.plan.widths[0]
        top = B[:first].reshape(-1, width, B.shape[1])
        x = (self.inverse_first.transpose(2, 0, 1) @ top).reshape(first, -1)
        if self.across is None:
            return x
        right = B[first:] - self.across.T @ B[:first]
        left = self.rest or self.corner
        assert left is not None
        below = left.solve(right)
        return np.concatenate([x - self.across @ below, below])

    def root(self, B: np.ndarray) -> np.ndarray:
        """R B for B (q, d), R R' = A^-1."""
        first, width = self.plan.eliminated, self.plan.widths[0]
        half = np.linalg.cholesky(self.inverse_first.transpose(2, 0, 1))
        x = (half @ B[:first].reshape(-1, width, B.shape[1])).reshape(first, -1)
        if self.across is None:
            return x
        left = self.rest or self.corner
        assert left is not None
        below = left.root(B[first:])
        return np.concatenate([x - self.across @ below, below])

    @cached_property
    def cells(self) -> np.ndarray:
        """The blocks of A^-1 on the cells, (K, K, c)."""
        plan, width = self.plan, self.plan.widths[0]
        K, c = plan.positions.shape
        out, first = np.empty((K, K, c)), self.inverse_first
        if width < K:
            corner, side = self._corner_and_side()
            first = first - sum_by(
                plan.level[:, 0], product(self.W.swapaxes(0, 1), side), plan.sizes[0]
            )
            out[width:, width:] = corner
            out[width:, :width] = side
            out[:width, width:] = side.swapaxes(0, 1)
        out[:width, :width] = np.take(first, plan.level[:, 0], axis=-1)
        return out

    def _corner_and_side(self) -> tuple[np.ndarray, np.ndarray]:
        """(A^-1)_22 and (A^-1)_21 on the cells."""
        if self.rest is not None and self.plan.parent is not None:
            blocks = np.take(self.rest.cells, self.plan.parent, axis=-1)
            return blocks, -product(blocks, self.W)
        assert self.corner is not None
        pairs, inverse = self.plan.pairs, self.corner.inverse()
        blocks = pairs.blocks(inverse)
        return blocks, -pairs.times(inverse, blocks, self.W)


def plan(level: np.ndarray, sizes: tuple[int, ...], widths: tuple[int, ...]) -> Plan:
    """Decide how to eliminate distinct, sorted cells (c, F), the factors already in order.

    Raises:
        ValueError: the effects that no order eliminates need more memory than there is.
    """
    if len(sizes) > 1 and len(np.unique(level[:, 0])) == len(level):
        left, parent = _distinct(level[:, 1:])
        return Plan(level, sizes, widths, parent, plan(left, sizes[1:], widths[1:]))
    check_memory(int(np.dot(sizes[1:], widths[1:])))
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
    level, cell = _distinct(codes[:, order])
    found = plan(level, tuple(sizes[f] for f in order), tuple(len(of_factor[f]) for f in order))
    columns = np.concatenate([of_factor[f] for f in order])
    known = np.repeat(known[:, order], found.widths, axis=1)
    n = panel.n_rows
    return Layout(found, cell[:n], cell[n:], known, columns, tuple(order))


def _keys(codes: np.ndarray) -> np.ndarray:
    """One number for every combination (n, F), in the order of the combinations, (n,)."""
    spans = [int(span) for span in codes.max(0, initial=0) + 1]
    key, size = codes[:, 0].astype(np.int64), spans[0]
    for own, span in zip(codes.T[1:], spans[1:], strict=True):
        if size * span > MOST_KEYS:
            _, key = np.unique(key, return_inverse=True)
            size = len(key)
        key, size = key * span + own, size * span
    return key


def _distinct(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct combinations (c, F), sorted, and which of them each of (n, F) is, (n,)."""
    _, first, place = np.unique(_keys(codes), return_index=True, return_inverse=True)
    return codes[first], place.ravel()


def _stand_in(new: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Combinations (n, F) with unknown levels (-1) filled in, from the cells seen where possible.

    What stands in for an unknown level is not used; a combination that was seen adds no cell.
    """
    out = new.copy()
    for pattern in np.unique(new < 0, axis=0):
        if not pattern.any():
            continue
        rows = np.flatnonzero(((new < 0) == pattern).all(1))
        wanted = new[np.ix_(rows, ~pattern)]
        if pattern.all():
            out[rows] = seen[0]
            continue
        key = _keys(np.concatenate([seen[:, ~pattern], wanted]))
        known, first = np.unique(key[: len(seen)], return_index=True)
        place = np.minimum(np.searchsorted(known, key[len(seen) :]), len(known) - 1)
        found = known[place] == key[len(seen) :]
        out[np.ix_(rows, pattern)] = np.where(found[:, None], seen[first[place]][:, pattern], 0)
    return out
