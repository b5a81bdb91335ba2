"""Exact draws from the conditionals that conjugate models meet, for all chains at once.

Small matrices have their chains (and what else there are many of) on the last axes.
"""

from __future__ import annotations

import numpy as np

from dgmm.mcmc.streams import Streams
from dgmm.numerics.cholesky import backward, cholesky, forward

__all__ = ["draw_inverse_gamma", "draw_inverse_wishart", "draw_normal"]


def draw_normal(precision: np.ndarray, shift: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """x ~ N(P^-1 r, P^-1): P (k, k, ...), r and the standard normal ``noise`` (k, ...).

    P = L L',   x = L'^-1 (L^-1 r + e)
    """
    L = cholesky(precision)
    inner = forward(L, shift[:, None]) + noise[:, None]
    found: np.ndarray = backward(L, inner)[:, 0]
    return found


def draw_inverse_wishart(df: float, scale: np.ndarray, streams: Streams) -> np.ndarray:
    """Sigma ~ IW(df, S), p(Sigma) ~ |Sigma|^-(df + q + 1)/2 exp{-tr(S Sigma^-1)/2}: S (q, q, C).

    By Bartlett's decomposition of Sigma^-1 ~ W(df, S^-1): with S = L L' and A lower triangular,
    A_ii^2 ~ chi2(df - i), A_ij ~ N(0, 1), it is Sigma = (L A'^-1)(L A'^-1)' with A A' ~ W(df, I).
    """
    q = len(scale)
    if q == 1:
        return draw_inverse_gamma(0.5 * df, 0.5 * scale, streams)
    L = cholesky(scale)
    A = np.zeros_like(scale)
    squares = 2 * streams.gamma((df - np.arange(q)) / 2)
    for i in range(q):
        A[i, i] = np.sqrt(squares[:, i])
    row, column = np.tril_indices(q, -1)
    A[row, column] = streams.normal(len(row)).T
    # L A'^-1: solve A X' = L' for X'
    X = forward(A, L.swapaxes(0, 1))
    found: np.ndarray = np.einsum("iac,ibc->abc", X, X)
    return found


def draw_inverse_gamma(shape: float, rate: np.ndarray, streams: Streams) -> np.ndarray:
    """v ~ IG(a, b), p(v) ~ v^-(a + 1) exp(-b / v): rate b (..., C) -> (..., C)."""
    drawn = streams.gamma(np.full(rate.shape[:-1], shape))
    return rate / np.moveaxis(drawn, 0, -1)
