"""Columns made orthonormal; a basis of time shrunk by roughness: trends stay, wiggles get small.

With G = phi'phi / N and Omega the mean square of second derivatives, the columns of phi A for

    A'G A = I,   A'Omega A = diag(omega_1 <= omega_2 <= ...)

are the Demmler-Reinsch basis of smoothing splines (Demmler and Reinsch, 1975, Numerische Mathematik
24, 375-382). A ridge on coefficients of columns that are scaled by (1 + omega / omega_5)^(-1/2) is
then a smoothing penalty: nearly free for level, trend and one or two bends, dear beyond. Level and
trend have omega = 0 both: any two directions of their plane are eigenvectors, and rounding (the
unit of time) decides which. A symmetric root is the same penalty, and does not turn.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["orthonormal", "smooth_first", "whitening"]

FREE = 4
"""Columns in front of the one whose roughness halves the variance."""

POINTS = 300
"""Times at which second differences are taken."""


def orthonormal(R: Tensor) -> Tensor:
    """K = R^-1 (q, q), upper triangular: the columns of X K are orthonormal, for X = QR.

    It lies in memory row by row, as it does when it has been read from a file: products of matrices
    that lie otherwise may differ in their last digit.
    """
    found = torch.linalg.solve_triangular(R, torch.eye(len(R), dtype=R.dtype), upper=True)
    return found.contiguous()


def whitening(T: Tensor, smallest: float = 1e-8) -> Tensor:
    """K (q, q), symmetric, with mean (T K)'(T K) = I for T (N, q)."""
    value, vector = torch.linalg.eigh(T.T @ T / len(T))
    return (vector / value.clamp(min=smallest * float(value[-1])).sqrt()) @ vector.T


def smooth_first(phi: Tensor, time: Tensor | None) -> Tensor:
    """S (r, r): a ridge on the coefficients of the columns phi S is a smoothing penalty.

    phi: (N, r), functions of ``time`` (N,); None when they are not functions of one variable, and
        then nothing is known of roughness and S makes the columns orthonormal.
    """
    whiten = whitening(phi, 1e-10)
    if time is None or phi.shape[1] <= FREE + 1:
        return whiten
    second = _second_derivatives(phi, time) @ whiten
    omega, turn = torch.linalg.eigh(second.T @ second)
    if float(omega[FREE]) <= 0:  # fewer times than columns
        return whiten
    shrunk = (1 + omega.clamp(min=0) / omega[FREE]).rsqrt()
    return whiten @ (turn * shrunk) @ turn.T


def _second_derivatives(phi: Tensor, time: Tensor) -> Tensor:
    """Second differences of the columns over at most POINTS evenly spread times, (P, r).

    Their squares add up to the integral of squared second derivatives, up to a constant.
    """
    times, first = np.unique(time.numpy(), return_index=True)
    grid = np.linspace(times[0], times[-1], POINTS)
    near = np.unique(np.searchsorted(times, grid).clip(0, len(times) - 1))
    t, f = torch.from_numpy(times[near]), phi[torch.from_numpy(first[near])]
    if len(t) < 3:
        return torch.zeros(1, phi.shape[1], dtype=phi.dtype)
    slope = (f[1:] - f[:-1]) / (t[1:] - t[:-1])[:, None]
    width = (t[2:] - t[:-2])[:, None] / 2
    return (slope[1:] - slope[:-1]) / width.sqrt()
