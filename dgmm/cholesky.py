"""Small Cholesky factors for many subjects at once, written out over the last, contiguous axis."""

from __future__ import annotations

import numpy as np

__all__ = ["backward", "cholesky", "forward", "log_det", "solve"]


def cholesky(M: np.ndarray) -> np.ndarray:
    """Lower factors of M (k, k, n); a non-positive pivot becomes NaN."""
    k = len(M)
    L = np.zeros_like(M)
    with np.errstate(invalid="ignore", divide="ignore"):
        for j in range(k):
            L[j, j] = np.sqrt(M[j, j] - (L[j, :j] ** 2).sum(0))
            for i in range(j + 1, k):
                L[i, j] = (M[i, j] - (L[i, :j] * L[j, :j]).sum(0)) / L[j, j]
    return L


def forward(L: np.ndarray, B: np.ndarray) -> np.ndarray:
    """L^-1 B for L (k, k, n), B (k, c, n)."""
    X = np.empty_like(B)
    for i in range(len(L)):
        X[i] = (B[i] - (L[i, :i, None] * X[:i]).sum(0)) / L[i, i]
    return X


def backward(L: np.ndarray, B: np.ndarray) -> np.ndarray:
    """L'^-1 B."""
    X = np.empty_like(B)
    for i in reversed(range(len(L))):
        X[i] = (B[i] - (L[i + 1 :, i, None] * X[i + 1 :]).sum(0)) / L[i, i]
    return X


def solve(L: np.ndarray, B: np.ndarray) -> np.ndarray:
    """(L L')^-1 B."""
    return backward(L, forward(L, B))


def log_det(L: np.ndarray) -> np.ndarray:
    """log det L L', (n,)."""
    return 2 * sum(np.log(L[j, j]) for j in range(len(L)))
