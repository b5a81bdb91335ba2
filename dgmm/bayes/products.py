"""Cross-products of a Gaussian outcome: all that its sampler needs to know of the rows.

With cells (distinct combinations of levels) c, rows i in c weighted by their prior weights,

    G_c = sum t_i t_i',   H_c = sum t_i r_i',   h_c = sum t_i y_i,   RR, Ry, yy

with r what of the columns z is not centred in the effects, so that a sweep costs as much as there
are cells, and with one grouping factor levels, not rows. y is what the pooled least-squares fit
leaves: sums of squares of a y far from zero lose its digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dgmm.bayes.layout import Layout
from dgmm.panel import Panel

__all__ = ["Own", "Products", "products_of"]


@dataclass(frozen=True)
class Own:
    """The cross-products of one factor by its levels, and by cells with the other factors."""

    G: np.ndarray  # (K, K, m)
    H: np.ndarray  # (K, p, m)
    h: np.ndarray  # (K, 1, m), or (K, C, m) where every chain has outcomes of its own
    across: tuple[np.ndarray, ...]  # (K, K_g, c) for every factor g, cells in the order of levels
    levels: tuple[np.ndarray, ...]  # (c,) level of these cells in every factor g
    start: np.ndarray  # (m,) first cell of every level
    full: np.ndarray  # (m,) bool: levels with a cell

    def sum_cells(self, values: np.ndarray) -> np.ndarray:
        """Sums over the cells of every level: (..., c) -> (..., m)."""
        if not len(self.start):
            return np.zeros((*values.shape[:-1], len(self.full)))
        found = np.zeros((*values.shape[:-1], len(self.full)))
        found[..., self.full] = np.add.reduceat(values, self.start[self.full], axis=-1)
        return found


@dataclass(frozen=True)
class Products:
    """Sums over the observed rows."""

    factors: tuple[Own, ...]
    RR: np.ndarray  # (p, p)
    Ry: np.ndarray  # (p, 1) or (p, C)
    yy: np.ndarray  # (1,) or (C,)
    N: int
    origin: np.ndarray  # (p,) pooled least squares on the scaled columns, taken off y


def products_of(layout: Layout, panel: Panel, left: np.ndarray) -> Products:
    """One pass over the observed rows of a panel; left: r, (N, p)."""
    seen = panel.observed_rows()
    rows, data = layout.rows(seen), seen.rows.data
    root = np.sqrt(data.weights.numpy())
    z = rows.z * root[:, None]
    y = ((data.y / data.trials).numpy() - rows.offset) * root
    t = [columns * root[:, None] for columns in rows.t]
    origin = np.linalg.lstsq(z, y, rcond=None)[0] if layout.p else np.zeros(0)
    y, r = y - z @ origin, left * root[:, None]
    level = np.stack(rows.level, axis=1)
    cells, cell = np.unique(level, axis=0, return_inverse=True)
    cell = cell.reshape(-1)
    own = tuple(_own(f, layout, t, r, y, cells, cell) for f in range(len(layout.factors)))
    return Products(own, r.T @ r, (r.T @ y)[:, None], np.array([y @ y]), len(y), origin)


def _own(
    f: int,
    layout: Layout,
    t: list[np.ndarray],
    r: np.ndarray,
    y: np.ndarray,
    cells: np.ndarray,
    cell: np.ndarray,
) -> Own:
    m, several = layout.factors[f].m, len(t) > 1
    order = np.argsort(cells[:, f], kind="stable")
    place = np.empty(len(cells), dtype=int)
    place[order] = np.arange(len(cells))
    level = cells[order]
    start = np.searchsorted(level[:, f], np.arange(m))
    full = np.bincount(level[:, f], minlength=m) > 0
    code = level[place[cell], f]

    def by(index: np.ndarray, left: np.ndarray, right: np.ndarray, size: int) -> np.ndarray:
        out = np.zeros((left.shape[1], right.shape[1], size))
        for a in range(left.shape[1]):
            for b in range(right.shape[1]):
                out[a, b] = np.bincount(index, left[:, a] * right[:, b], minlength=size)
        return out

    across = tuple(
        by(place[cell], t[f], t[g], len(cells)) if several and g != f else np.zeros((0, 0, 0))
        for g in range(len(t))
    )
    return Own(
        by(code, t[f], t[f], m),
        by(code, t[f], r, m),
        by(code, t[f], y[:, None], m),
        across,
        tuple(level[:, g] for g in range(len(t))),
        start,
        full,
    )
