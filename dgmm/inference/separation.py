"""Separation: fixed effects whose maximum likelihood estimate is infinite.

A direction d of the coefficients with x_i'd <= 0 where the outcome is the least possible, >= 0
where it is the greatest, = 0 elsewhere, and not zero throughout, raises the likelihood for ever. A
linear program finds one: maximise sum_i s_i x_i'd over |d_j| <= 1 (Konis 2007, DPhil thesis,
Oxford; Correia, Guimaraes and Zylkin 2019, arXiv:1903.01633, for counts).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import optimize, sparse

__all__ = ["Separation", "find_separation"]

MOST_ROWS = 50_000
TINY = 1e-7


class Separation(NamedTuple):
    """Columns with an infinite coefficient, and whether they separate every row."""

    columns: tuple[int, ...]
    complete: bool


def find_separation(X: np.ndarray, lowest: np.ndarray, highest: np.ndarray) -> Separation | None:
    """The columns of X (N, p) that separate the outcomes, or None.

    lowest, highest: (N,) bool, the outcome is the least or the greatest possible one; rows that are
    both say nothing. Very long data are looked at in distinct rows, and not at all when these are
    more than 50,000.
    """
    said = ~(lowest & highest)
    X, lowest, highest = X[said], lowest[said], highest[said]
    if not len(X):
        return None
    side = highest.astype(float) - lowest.astype(float)
    scale = np.abs(X).max(0)
    scaled = X / np.where(scale > 0, scale, 1.0)
    rows = np.unique(np.column_stack([side, scaled]), axis=0)
    if len(rows) > MOST_ROWS:
        return None
    side, scaled = rows[:, 0], rows[:, 1:]
    inner = side == 0
    signed = side[~inner, None] * scaled[~inner]
    if not len(signed):
        return None
    found = optimize.linprog(
        -signed.sum(0),
        A_ub=sparse.csr_array(-signed),
        b_ub=np.zeros(len(signed)),
        A_eq=sparse.csr_array(scaled[inner]) if inner.any() else None,
        b_eq=np.zeros(int(inner.sum())) if inner.any() else None,
        bounds=(-1, 1),
        method="highs",
    )
    if not found.success or -found.fun < TINY * len(signed):
        return None
    columns = tuple(int(j) for j in np.flatnonzero(np.abs(found.x) > TINY))
    return Separation(columns, not inner.any() and _margin(signed) > TINY)


def _margin(signed: np.ndarray) -> float:
    """The largest t with s_i x_i'd >= t in every row: positive when all rows are separated."""
    rows, p = signed.shape
    below = np.column_stack([-signed, np.ones(rows)])
    aim = np.append(np.zeros(p), -1.0)
    bounds = [(-1, 1)] * p + [(0, 1)]
    found = optimize.linprog(
        aim, A_ub=sparse.csr_array(below), b_ub=np.zeros(rows), bounds=bounds, method="highs"
    )
    return float(-found.fun) if found.success else 0.0
