"""Sufficient statistics of a Gaussian mixed model with several grouping factors.

Gaussian outcome, identity link. With Lambda relative to sigma and u the effects of all levels,

    A = Lambda'Z'WZ Lambda + I,   B = Lambda'Z'W[X y],   U = A^-1 B,   S = [X y]'W[X y] - B'U.

The data enter through sums over cells (distinct combinations of levels), and A through its factors
by cells.py. Gradients are exact,

    d log det A / d Lambda = 2 sum_c G_c Lambda (A^-1)_c,   d rss / d Lambda = -2 sum_l r_l u_l',

with G_c = sum t w t' over the rows of cell c and r_l = sum t w (residual) over those of level l.
After Bates, Maechler, Bolker and Walker (2015), J. Statistical Software 67(1), section 3.

A search takes its metric from the average of the observed and the expected information, in which
the traces cancel: with V_e the slope of V = I + Z Lambda Lambda'Z' in entry e = (i, k) of Lambda
and P = V^-1 less what beta takes up,

    I_ef = y'P V_e P V_f P y / sigma^2,   V_e P y = Z (E_e u + Lambda E_e'r),

to which the second derivatives of V are added where the variance is smaller than zero would be.
After Gilmour, Thompson and Cullis (1995), Biometrics 51, 1440-1450.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from scipy import optimize

from dgmm.latent import Pattern
from dgmm.likelihood.cells import Factorised, Layout, lay_out, products_by, sum_by, turned
from dgmm.likelihood.statistics import Bend, scaled_rows
from dgmm.model import Model
from dgmm.panel import Panel

__all__ = ["CrossedPieces", "CrossedStatistics", "crossed_statistics", "moments"]

SMALL = 1e-3
"""Variance that a search begins with at least, relative to the residual one."""

SINGULAR = 1e8
"""Condition of a Lambda that is not divided by."""

CLOSE = 1e-13
"""Entries of Lambda, relative to them, that are the same."""

STEP = 1e-4
"""Step of central differences of the gradient, relative to the size of Lambda."""


@dataclass(frozen=True)
class CrossedStatistics:
    """Sums over cells and levels, in units of the model."""

    G: np.ndarray  # (K, K, c)
    H: np.ndarray  # (q, p + 1) sums over the rows of every level, last column for y
    C: np.ndarray  # (p + 1, p + 1)
    origin: np.ndarray  # (p,)
    N: int
    constant: float
    unit: float
    log_det_basis: float
    pattern: Pattern
    layout: Layout
    # of the last Lambda; there is no memory for the factors of two
    _pieces: dict[str, CrossedPieces] = field(default_factory=dict, init=False, repr=False)
    _factor: dict[bytes, Factorised] = field(default_factory=dict, init=False, repr=False)

    @property
    def p(self) -> int:
        """Number of linear coefficients."""
        return self.C.shape[0] - 1

    def reduce(self, Lambda: np.ndarray) -> CrossedPieces:
        """S, log det A and their gradient at Lambda relative to sigma; the last one is kept."""
        own, last = self.layout.rearrange(Lambda), self._pieces.get("last")
        if last is not None and (np.abs(last.Lambda - own) <= CLOSE * np.abs(own)).all():
            return last
        factor, B = self.factor(own), self.lifted(own.T, self.H)
        U = factor.solve(B)
        S = self.C - B.T @ U
        found = CrossedPieces(self, own, U, 0.5 * (S + S.T), factor.log_det)
        self._pieces["last"] = found
        return found

    def factor(self, own: np.ndarray) -> Factorised:
        """The factors of A at Lambda (K, K) in the order of elimination."""
        key = own.tobytes()
        if key not in self._factor:
            self._factor.clear()
            self._factor[key] = self.layout.plan.factorise(turned(own, self.G))
        return self._factor[key]

    def forget(self) -> None:
        """Give back the memory of the factors."""
        self._factor.clear()

    def spans(self) -> Iterator[tuple[slice, slice, int]]:
        """Of each factor its columns among K, its effects among q, and how many a level has."""
        plan, column = self.layout.plan, 0
        for first, size, width in zip(plan.first, plan.sizes, plan.widths, strict=True):
            yield slice(column, column + width), slice(first, first + size * width), width
            column += width

    def lifted(self, matrix: np.ndarray, effects: np.ndarray) -> np.ndarray:
        """A matrix (K, K), block diagonal by factors, times the effects of all levels (q, d)."""
        out = np.empty_like(effects)
        for columns, place, width in self.spans():
            own = effects[place].reshape(-1, width, effects.shape[1])
            out[place] = (matrix[columns, columns] @ own).reshape(-1, effects.shape[1])
        return out

    def between(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """sum_l left_l right_l' of all levels, (K, K), by factors, from (q,) each."""
        out = np.zeros((len(self.layout.columns),) * 2)
        for columns, place, width in self.spans():
            out[columns, columns] = left[place].reshape(-1, width).T @ right[place].reshape(
                -1, width
            )
        return out

    def crossed(self, G: np.ndarray, effects: np.ndarray) -> np.ndarray:
        """sum_c G_c of the effects, (q, d) from (q, d), G (K, K, c)."""
        plan, out = self.layout.plan, np.empty_like(effects)
        for j, column in enumerate(effects.T):
            own = column[plan.positions]
            out[:, j] = plan.scatter(np.einsum("ikc,kc->ic", G, own))
        return out


def crossed_statistics(model: Model, panel: Panel) -> CrossedStatistics:
    """One pass over the observed rows of a panel with several grouping factors."""
    t, z, origin, constant = scaled_rows(model, panel)
    layout = lay_out(panel)
    t, plan = t[layout.columns], layout.plan
    H, column = np.empty((plan.order, len(z))), 0
    for j, (first, size, width) in enumerate(zip(plan.first, plan.sizes, plan.widths, strict=True)):
        level = np.take(plan.level[:, j], layout.cell)
        for k in range(width):
            own = slice(first + k, first + size * width, width)
            H[own] = sum_by(level, t[column + k] * z, size).T
        column += width
    return CrossedStatistics(
        products_by(layout.cell, t, t, plan),
        H,
        z @ z.T,
        origin,
        z.shape[1],
        constant,
        model.unit,
        float(torch.linalg.slogdet(model.basis)[1]),
        Pattern.of(model.latents),
        layout,
    )


@dataclass(frozen=True)
class CrossedPieces:
    """The statistics at some Lambda."""

    form = "observed information, central differences"

    stats: CrossedStatistics
    Lambda: np.ndarray  # (K, K) in the order of elimination
    U: np.ndarray  # (q, p + 1)
    S: np.ndarray  # (p + 1, p + 1)
    log_det: float

    @cached_property
    def GL(self) -> np.ndarray:
        """G_c Lambda of every cell, (K, K, c)."""
        return self.Lambda.T @ self.stats.G

    @cached_property
    def traced(self) -> np.ndarray:
        """sum_c G_c Lambda (A^-1)_c, (K, K)."""
        K = len(self.Lambda)
        inverse = self.stats.factor(self.Lambda).cells
        found: np.ndarray = self.GL.reshape(K, -1) @ inverse.reshape(K, -1).T
        return found

    @cached_property
    def rest(self) -> np.ndarray:
        """H less what the effects U take of it, (q, p + 1)."""
        return self.stats.H - self.stats.crossed(self.GL, self.U)

    def residual(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """u = U v and what is left of H v, (q,) each."""
        u = self.U @ v
        return u, self.stats.H @ v - self.stats.crossed(self.GL, u[:, None])[:, 0]

    def slope(self, v: np.ndarray, precision: float, restricted: bool) -> np.ndarray:
        """The gradient in Lambda of log det A + precision v'S v (+ log det S_xx)."""
        stats, p = self.stats, self.stats.p
        u, r = self.residual(v)
        slope = 2 * self.traced - 2 * precision * stats.between(r, u)
        if restricted:
            weighted = self.U[:, :p] @ np.linalg.inv(self.S[:p, :p])
            for j in range(p):
                slope -= 2 * stats.between(self.rest[:, j], weighted[:, j])
        return stats.layout.restore(slope)

    def curvature(self, v: np.ndarray, precision: float, restricted: bool) -> Bend:
        """Second derivatives of the function whose gradient is :meth:`slope`.

        Those in Lambda are central differences of it, those beside v exact.
        """
        stats, pattern, K = self.stats, self.stats.pattern, len(self.Lambda)
        own, mixed = stats.layout.restore(self.Lambda), self._between_columns(v)
        assert self.traced.size  # now, while the factor is there
        both = np.zeros((K, K, K, K))
        h = STEP * max(float(np.abs(own).max()), SMALL)
        for row, column in zip(pattern.row, pattern.column, strict=True):
            step = np.zeros_like(own)
            step[row, column] = h
            up, down = (
                stats.reduce(own + move).slope(v, precision, restricted) for move in (step, -step)
            )
            both[row, column] = (up - down) / (2 * h)
        return Bend(both, -2 * precision * mixed)

    def _between_columns(self, v: np.ndarray) -> np.ndarray:
        """sum_l rest_lj (U v)_l' + (rest v)_l U_lj', (K, K, p + 1), as Lambda is written."""
        stats, (u, r) = self.stats, self.residual(v)
        found = [
            stats.layout.restore(stats.between(self.rest[:, j], u) + stats.between(r, self.U[:, j]))
            for j in range(stats.p + 1)
        ]
        return np.stack(found, axis=-1)

    def average_information(self, v: np.ndarray, rss: float, restricted: bool) -> np.ndarray:
        """That about the free entries of Lambda, sigma and beta profiled out, (E, E)."""
        stats, p, (rows, columns) = self.stats, self.stats.p, self._entries
        u, r = self.residual(v)
        b = np.stack([self._moved(i, k, u, r) for i, k in zip(rows, columns, strict=True)], axis=1)
        # what is left of b: b'G b - y'A^-1 y would cancel where sigma is small
        y = stats.lifted(self.Lambda.T, stats.crossed(stats.G, b))
        c = stats.factor(self.Lambda).solve(y)
        left = b - stats.lifted(self.Lambda, c)
        across = stats.H[:, :p].T @ left
        along = r @ b
        df = stats.N - p if restricted else stats.N
        information = left.T @ stats.crossed(stats.G, left) + c.T @ c
        information -= across.T @ np.linalg.solve(self.S[:p, :p], across)
        information -= np.outer(along, along) / rss
        found: np.ndarray = information * df / rss
        return found

    def pull(self, v: np.ndarray, precision: float) -> np.ndarray:
        """The second derivatives of -2 l through those of Lambda Lambda', (E, E).

        Twice M_ii' where k = k' for entries (i, k) and (i', k'), M the positive part of the slope
        of -2 l in Lambda Lambda': it keeps a variance at zero that would be negative.
        """
        stats, M = self.stats, np.zeros_like(self.Lambda)
        r = self.residual(v)[1]
        rr = stats.between(r, r)
        for own, _, _ in stats.spans():
            Lambda = self.Lambda[own, own]
            if np.linalg.cond(Lambda) > SINGULAR:
                continue
            within = np.linalg.solve(Lambda.T, self.traced[own, own].T).T
            value, vector = np.linalg.eigh(0.5 * (within + within.T) - precision * rr[own, own])
            M[own, own] = (vector * np.maximum(value, 0.0)) @ vector.T
        rows, columns = self._entries
        same = columns[:, None] == columns
        found: np.ndarray = 2 * M[np.ix_(rows, rows)] * same
        return found

    @property
    def _entries(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the free entries in the order of elimination."""
        place, pattern = np.argsort(self.stats.layout.columns), self.stats.pattern
        return place[pattern.row], place[pattern.column]

    def _moved(self, i: int, k: int, u: np.ndarray, r: np.ndarray) -> np.ndarray:
        """E u + Lambda E'r for E zero but for a one at (i, k), (q,)."""
        out = np.zeros_like(u)
        for columns, place, width in self.stats.spans():
            if not columns.start <= i < columns.stop:
                continue
            own, i, k = self.Lambda[columns, columns], i - columns.start, k - columns.start
            into = out[place].reshape(-1, width)
            into[:, i] = u[place].reshape(-1, width)[:, k]
            into += r[place].reshape(-1, width)[:, i, None] * own[:, k]
            out[place] = into.ravel()
            break
        return out

    @property
    def coefficient_slope(self) -> np.ndarray:
        """The slope of S_xx in Lambda, (K, K, p, p)."""
        stats, p, K = self.stats, self.stats.p, len(self.Lambda)
        out = np.zeros((K, K, p, p))
        for columns, place, width in stats.spans():
            rest = self.rest[place, :p].reshape(-1, width, p)
            effects = self.U[place, :p].reshape(-1, width, p)
            own = np.tensordot(rest, effects, axes=(0, 0))  # (k, p, k, p)
            out[columns, columns] = own.transpose(0, 2, 1, 3)
        found = np.empty_like(out)
        at = stats.layout.columns
        found[np.ix_(at, at)] = -(out + out.swapaxes(-1, -2))
        return found


def moments(stats: CrossedStatistics) -> np.ndarray:
    """Free entries (E,) of Lambda relative to sigma to begin with, by moments: MINQUE(0).

    With r the least-squares residuals, Z_e the columns of effect e and d_e its variance, no effects
    correlated,

        sum_f d_f |Z_e'Z_f|^2 + sigma^2 |Z_e|^2 = |Z_e'r|^2,
        sum_f d_f |Z_f|^2     + sigma^2 N       = |r|^2,

    whose expectations these are but for the estimation of beta; solved with d >= 0. After Rao
    (1971), J. Multivariate Analysis 1, 257-275.
    """
    plan, K, pattern = stats.layout.plan, len(stats.layout.columns), stats.pattern
    change = np.linalg.lstsq(stats.C[:-1, :-1], stats.C[:-1, -1], rcond=None)[0]
    v = np.append(-change, 1.0)
    s = stats.H @ v
    system, right = np.zeros((K + 1, K + 1)), np.zeros(K + 1)
    system[:K, :K] = (stats.G**2).sum(-1)
    for j, (columns, place, width) in enumerate(stats.spans()):
        own = sum_by(plan.level[:, j], stats.G[columns, columns], plan.sizes[j])
        system[columns, columns] = (own**2).sum(-1)
        right[columns] = (s[place].reshape(-1, width) ** 2).sum(0)
        system[columns, K] = system[K, columns] = np.diagonal(own.sum(-1))
    system[K, K], right[K] = stats.N, v @ stats.C @ v
    scale = 1 / np.sqrt(np.diag(system))
    found = scale * optimize.nnls(system * scale * scale[:, None], right * scale)[0]
    floor = SMALL * max(found[K], SMALL * right[K] / stats.N)
    variance = np.maximum(found[:K], floor) / max(found[K], SMALL * right[K] / stats.N)
    diagonal = np.empty(K)
    diagonal[stats.layout.columns] = np.sqrt(variance)
    return np.where(pattern.on_diagonal, diagonal[pattern.row], 0.0)
