"""Small Cholesky factors for many subjects at once, written out over the last, contiguous axis."""

from __future__ import annotations

import numpy as np

__all__ = ["backward", "cholesky", "forward", "log_det", "solve"]


def cholesky(M: np.ndarray) -> np.ndarray:
    """Lower factors of M (k, k, ..., n); a non-positive pivot becomes NaN."""
    L = np.zeros_like(M)
    with np.errstate(invalid="ignore", divide="ignore"):
        for j in range(len(M)):
            for i in range(j, len(M)):
                L[i, j] = M[i, j]
                for m in range(j):
                    L[i, j] -= L[i, m] * L[j, m]
                if i == j:
                    np.sqrt(L[j, j], out=L[j, j])
                else:
                    L[i, j] /= L[j, j]
    return L


def forward(L: np.ndarray, B: np.ndarray) -> np.ndarray:
    """L^-1 B for L (k, k, n), B (k, c, n)."""
    X = B.copy()
    for i in range(len(L)):
        for j in range(i):
            X[i] -= L[i, j] * X[j]
        X[i] /= L[i, i]
    return X


def backward(L: np.ndarray, B: np.ndarray) -> np.ndarray:
    """L'^-1 B."""
    X = B.copy()
    for i in reversed(range(len(L))):
        for j in range(i + 1, len(L)):
            X[i] -= L[j, i] * X[j]
        X[i] /= L[i, i]
    return X


def solve(L: np.ndarray, B: np.ndarray) -> np.ndarray:
    """(L L')^-1 B."""
    return backward(L, forward(L, B))


def log_det(L: np.ndarray) -> np.ndarray:
    """log det L L', (..., n)."""
    found: np.ndarray = 2 * np.log(np.einsum("jj...->j...", L)).sum(0)
    return found
