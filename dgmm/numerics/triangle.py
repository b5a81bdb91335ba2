"""The triangle of X = QR for many rows: Q is never formed, and no copy of X is made."""

from __future__ import annotations

import numpy as np

__all__ = ["ROWS", "triangle"]

ROWS = 8192
"""Rows taken at once: a cache's worth of a design matrix."""


def triangle(X: np.ndarray) -> np.ndarray:
    """R (p, p) of X = QR, X (N, p) with N >= p, as stable as one Householder QR of all rows.

    Blocks of rows have triangles of their own, and the triangle of these, stacked, is R: with
    X_b = Q_b R_b, X'X = sum_b R_b'R_b. After Golub and Van Loan (2013), Matrix Computations, 5.2.
    """
    blocks = [_triangle(X[first : first + ROWS]) for first in range(0, len(X), ROWS)]
    return blocks[0] if len(blocks) == 1 else _triangle(np.concatenate(blocks))


def _triangle(X: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.qr(X, mode="r"))
