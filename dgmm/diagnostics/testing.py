"""Tests of statistics that have mean zero under a right model, at an estimate.

    T(theta-hat) = sum_i H_i(theta-hat),   E H_i(theta) = 0 under theta

The estimate has taken up some of what T would show. With the scores s_i, to first order,

    T(theta-hat) = sum_i (H_i - B s_i) + B K theta,   B = E(H s') {E(s s') + K}^-1,

K the ridge of networks, if any, which draws theta-hat away from theta and T away from zero. At
theta-hat K theta-hat is the slope g of the log-likelihood, and

    (T - B g)' V^-1 (T - B g) ~ chi2(rank V),   V the variance of sum_i (H_i - B s_i).

Moments are those of units simulated from the model, so that a wrong model does not hide itself in
V. Directions of T that the estimate takes up whole, such as the spread of normal residuals, are
left out: they say nothing.

References:
    Neyman (1959), in Grenander (ed.), Probability and Statistics, 213-234 (T - B g at estimates
    that are no maxima).
    Pierce (1982), Annals of Statistics 10, 475-478; Newey (1985), Econometrica 53, 1047-1070.
    Neyman (1937), Skandinavisk Aktuarietidskrift 20, 149-199 (the smooth test).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

__all__ = ["Penalty", "Tested", "Units", "legendre", "moment_test"]

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


class Penalty(NamedTuple):
    """The penalty of a maximum, - sum_k ridge_k theta_k^2 / 2 beside the log-likelihood."""

    ridge: np.ndarray  # (P,)
    slope: np.ndarray  # (P,) that of the log-likelihood, which it leaves


def moment_test(T: np.ndarray, size: int, known: Units, penalty: Penalty | None = None) -> Tested:
    """The test of the module: T (K,) of ``size`` units, with the moments of other, ``known`` ones.

    penalty: of the estimate, where there is one.
    """
    H, scores = known
    count = len(scores)
    B, taken = _taken_up(known, None if penalty is None else penalty.ridge * (count / size))
    if penalty is not None:
        T = T - B.T @ penalty.slope
    rest, free = H - scores @ B, count - taken
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


def _taken_up(known: Units, ridge: np.ndarray | None) -> tuple[np.ndarray, float]:
    """B (P, K), and how many degrees of freedom the estimate has: tr{(S'S + K)^-1 S'S}."""
    H, scores = known
    information, joint = scores.T @ scores, scores.T @ H
    if ridge is None:
        B = np.linalg.lstsq(information, joint, rcond=1e-10)[0]
        return B, float(np.linalg.matrix_rank(scores))
    sides = np.hstack([joint, information])
    solved = np.linalg.lstsq(information + np.diag(ridge), sides, rcond=1e-10)[0]
    return solved[:, : H.shape[1]], float(np.trace(solved[:, H.shape[1] :]))


def legendre(u: np.ndarray, order: int = ORDER) -> np.ndarray:
    """Orthonormal polynomials on (0, 1), (N, order), without the constant."""
    found = np.polynomial.legendre.legvander(2 * u - 1, order)[:, 1:]
    return np.asarray(found * np.sqrt(2 * np.arange(1, order + 1) + 1))
