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
    blocks = [np.linalg.qr(X[first : first + ROWS], mode="r") for first in range(0, len(X), ROWS)]
    R: np.ndarray = blocks[0] if len(blocks) == 1 else np.linalg.qr(np.concatenate(blocks), "r")
    return R
