"""Tests of statistics that have mean zero under a right model, at an estimate.

    T(theta-hat) = sum_i H_i(theta-hat),   E H_i(theta) = 0 under theta

The estimate has taken up some of what T would show. With the scores s_i, to first order,

    T(theta-hat) = sum_i (H_i - B s_i),   B = E(H s') {E(s s') + K}^-1,   T'V^-1 T ~ chi2(rank V),

V the variance of the sum and K the ridge of networks, if any. Moments are those of units simulated
from the model, so that a wrong model does not hide itself in V. Directions of T that the estimate
takes up whole, such as the spread of normal residuals, are left out: they say nothing.

References:
    Pierce (1982), Annals of Statistics 10, 475-478; Newey (1985), Econometrica 53, 1047-1070.
    Neyman (1937), Skandinavisk Aktuarietidskrift 20, 149-199 (the smooth test).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

__all__ = ["Tested", "Units", "legendre", "moment_test"]

ORDER = 4
"""Of the smooth test: level, spread, skewness and tails of the residuals."""

LEFT = 0.1
"""Share of the variance of a direction that the estimate must leave."""


class Tested(NamedTuple):
    """A statistic, its degrees of freedom and its p value."""

    statistic: float
    df: int
    p: float


class Units(NamedTuple):
    """Independent pieces of data, subjects or rows."""

    H: np.ndarray  # (n, K)
    scores: np.ndarray  # (n, P), no columns where theta was not estimated from them


def moment_test(T: np.ndarray, size: int, known: Units, ridge: np.ndarray | None = None) -> Tested:
    """The test of the module: T (K,) of ``size`` units, with the moments of other, ``known`` ones.

    ridge: (P,) of the penalised log-likelihood.
    """
    H, scores = known
    count, P = scores.shape
    penalty = np.zeros(P) if ridge is None else ridge * (count / size)
    B = np.linalg.lstsq(scores.T @ scores + np.diag(penalty), scores.T @ H, rcond=1e-10)[0]
    rest = H - scores @ B
    free = count - np.linalg.matrix_rank(scores)
    raw, V = H.T @ H / count, rest.T @ rest / max(free, 1)
    own, vector = np.linalg.eigh(raw)
    there = own > 1e-10 * own.max(initial=0.0)
    white = vector[:, there] / np.sqrt(own[there])
    left, turn = np.linalg.eigh(white.T @ V @ white)
    kept = left > LEFT
    df = int(kept.sum())
    if not df:
        return Tested(np.nan, 0, np.nan)
    value = np.square(turn[:, kept].T @ (white.T @ T)) / left[kept]
    found = float(value.sum()) / size
    last = free - df + 1
    p = special.fdtrc(df, last, found * last / (df * free)) if last > 0 else np.nan
    return Tested(found, df, float(p))


def legendre(u: np.ndarray, order: int = ORDER) -> np.ndarray:
    """Orthonormal polynomials on (0, 1), (N, order), without the constant."""
    found = np.polynomial.legendre.legvander(2 * u - 1, order)[:, 1:]
    return np.asarray(found * np.sqrt(2 * np.arange(1, order + 1) + 1))
