"""Sufficient statistics of a Gaussian mixed model with one grouping factor.

One pass over the rows gives, per subject, A_i = T_i'W T_i, B_i = T_i'W [X_i y_i] and the total
C = [X y]'W[X y] (W prior weights). With Lambda relative to sigma every evaluation then costs O(n):

    M_i = I + Lambda'A_i Lambda,   K_i = chol(M_i)^-1 Lambda'B_i,   S = C - sum_i K_i'K_i.

Sums of squares of a y that is far from zero lose the digits of its residuals. So y stands for its
residuals about X origin, where origin is the least-squares fit, unless they are as large as y.

Arrays keep subjects on the last, contiguous axis and the small Cholesky factors are written out
over it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgmm.latent import Pattern
from dgmm.model import Model
from dgmm.numerics.cholesky import backward, cholesky, forward, log_det
from dgmm.numerics.triangle import ROWS
from dgmm.panel import Panel

__all__ = ["Scaled", "Statistics", "scaled_rows", "statistics"]

LARGE = 1e4
"""Sum of squares of y beside that of its residuals from which on the sums lose too many digits."""

REFINEMENTS = 3
"""Most times that the least-squares fit is taken off: each leaves 1e-16 of what was there."""


@dataclass(frozen=True)
class Statistics:
    """Sums over the rows of every subject, in units of the model."""

    A: np.ndarray  # (q, q, n)
    B: np.ndarray  # (q, p + 1, n), last column for y
    C: np.ndarray  # (p + 1, p + 1)
    origin: np.ndarray  # (p,)
    N: int
    constant: float  # N log unit^2 - sum log w
    unit: float
    log_det_basis: float  # log |basis|: the restricted likelihood is about X as written
    pattern: Pattern

    @property
    def p(self) -> int:
        """Number of linear coefficients."""
        return self.C.shape[0] - 1

    def reduce(self, Lambda: np.ndarray) -> Pieces:
        """S, sum_i log det M_i and their gradient at Lambda relative to sigma."""
        M = _between(Lambda, self.A, Lambda)
        q = len(M)
        M[np.arange(q), np.arange(q)] += 1
        L = cholesky(M)
        K = forward(L, np.tensordot(Lambda.T, self.B, axes=1))
        S = self.C - sum(k @ k.T for k in K)
        return Pieces(self, Lambda, L, K, S, float(log_det(L).sum()))


@dataclass(frozen=True)
class Pieces:
    """The statistics at some Lambda."""

    stats: Statistics
    Lambda: np.ndarray  # (q, q)
    L: np.ndarray  # chol(M) (q, q, n)
    K: np.ndarray  # (q, p + 1, n)
    S: np.ndarray  # (p + 1, p + 1)
    log_det: float

    def slope(self, v: np.ndarray, precision: float, restricted: bool) -> np.ndarray:
        """The gradient in Lambda of sum_i log det M_i + precision v'S v (+ log det S_xx)."""
        stats, p = self.stats, self.stats.p
        AL = _between(np.eye(len(self.Lambda)), stats.A, self.Lambda)  # A_i Lambda, (q, q, n)
        inverse = backward(self.L, forward(self.L, _identity_like(self.L)))
        w = backward(self.L, np.tensordot(v, self.K, axes=([0], [1]))[:, None])[:, 0]
        residual = np.tensordot(v, stats.B, axes=([0], [1])) - (AL * w).sum(1)
        trace: np.ndarray = np.einsum("ijn,jkn->ik", AL, inverse)
        slope = 2 * (trace - precision * (residual @ w.T))
        if restricted:
            W = backward(self.L, self.K[:, :p])
            weighted = np.einsum("kpn,pr->krn", W, np.linalg.inv(self.S[:p, :p]))
            rest = stats.B[:, :p] - np.einsum("qkn,kpn->qpn", AL, W)
            slope -= 2 * np.einsum("qpn,kpn->qk", rest, weighted)
        return slope


def statistics(model: Model, panel: Panel, frames: Sequence[Tensor] | None = None) -> Statistics:
    """One pass over the observed rows of a panel, some subjects at a time.

    frames: by which the columns of every latent structure are taken, by default those of structures
        by columns.
    """
    if not panel.n_rows:
        raise ValueError("no outcome was observed")
    frames = _frames(model) if frames is None else frames
    start = panel.start.numpy()[panel.count.numpy() > 0]
    q = sum(frame.shape[1] for frame in frames)
    p, n, N = len(model.names), len(start), panel.n_rows
    A, B, C = np.empty((q, q, n)), np.empty((q, p + 1, n)), np.zeros((p + 1, p + 1))
    origin, log_weights = np.zeros(p), 0.0
    for subjects, rows in _runs(start, N):
        t, z, weights = _columns(model, panel, rows, frames)
        inside = start[subjects] - rows.start
        for j, column in enumerate(t):
            A[j, :, subjects] = np.add.reduceat(column * t, inside, axis=-1)
            B[j, :, subjects] = np.add.reduceat(column * z, inside, axis=-1)
        C += z @ z.T
        log_weights += float(np.log(weights).sum())
    for _ in range(REFINEMENTS):
        step = least_squares(C)
        if step is None:
            break
        origin += step
        C[-1] = C[:, -1] = 0.0
        for subjects, rows in _runs(start, N):
            t, z, _ = _columns(model, panel, rows, frames)
            inside = start[subjects] - rows.start
            residual = z[-1] - origin @ z[:-1]
            B[:, -1, subjects] = np.add.reduceat(t * residual, inside, axis=-1)
            C[:-1, -1] += z[:-1] @ residual
            C[-1, -1] += residual @ residual
        C[-1, :-1] = C[:-1, -1]
    constant = 2 * N * math.log(model.unit) - log_weights
    basis_det = float(torch.linalg.slogdet(model.basis)[1])
    return Statistics(
        A, B, C, origin, N, constant, model.unit, basis_det, Pattern.of(model.latents)
    )


def least_squares(C: np.ndarray) -> np.ndarray | None:
    """The coefficients (p,) that y should lose, None where that makes it little smaller.

    C (p + 1, p + 1): sums of products of [X y], the columns of X nearly orthogonal.
    """
    Cxy = C[:-1, -1]
    fitted = np.linalg.lstsq(C[:-1, :-1], Cxy, rcond=None)[0]
    left = C[-1, -1] - Cxy @ fitted
    return fitted if C[-1, -1] > LARGE * left else None


class Scaled(NamedTuple):
    """The rows in units of the model, each times the root of its prior weight."""

    t: np.ndarray  # (q, N) columns of all T
    z: np.ndarray  # (p + 1, N) columns of X, then the residuals of y about X origin
    origin: np.ndarray  # (p,)
    constant: float  # N log unit^2 - sum log w


def scaled_rows(model: Model, panel: Panel) -> Scaled:
    """y / unit, T frame / unit and X basis / unit of the observed rows of a panel."""
    if not panel.n_rows:
        raise ValueError("no outcome was observed")
    t, z, weights = _columns(model, panel, slice(0, panel.n_rows), _frames(model))
    y, origin = z[-1].copy(), np.zeros(len(z) - 1)
    for _ in range(REFINEMENTS):
        step = least_squares(z @ z.T)
        if step is None:
            break
        origin += step
        z[-1] = y - origin @ z[:-1]
    constant = 2 * panel.n_rows * math.log(model.unit) - float(np.log(weights).sum())
    return Scaled(t, z, origin, constant)


def _runs(start: np.ndarray, N: int) -> Iterator[tuple[slice, slice]]:
    """Consecutive subjects with their rows, a cache's worth (or one subject) at a time."""
    first = 0
    while first < len(start):
        last = max(int(np.searchsorted(start, start[first] + ROWS)), first + 1)
        end = int(start[last]) if last < len(start) else N
        yield slice(first, last), slice(int(start[first]), end)
        first = last


def _frames(model: Model) -> list[Tensor]:
    """Those of the structures by columns; of others no column."""
    return [one.frame if one.by_columns else one.frame[:, :0] for one in model.latents]


def _columns(
    model: Model, panel: Panel, at: slice, frames: Sequence[Tensor]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Some rows of W^(1/2) T (q, m) and W^(1/2) [X y] (p + 1, m) in units of the model, and w."""
    rows, unit = panel.rows, model.unit
    y, trials, weights = (column[at].numpy() for column in rows.data)
    root = np.sqrt(weights)
    pairs = zip(rows.T, frames, strict=True)
    own = [(frame.numpy().T / unit) @ T[at].numpy().T for T, frame in pairs if frame.shape[1]]
    t = np.concatenate([np.zeros((0, len(y))), *own])
    z = np.empty((len(model.names) + 1, len(y)))
    np.matmul(model.basis.numpy().T / unit, rows.X[at].numpy().T, out=z[:-1])
    z[-1] = (y / trials - rows.offset[at].numpy()) / unit
    t *= root
    z *= root
    return t, z, weights


def _between(left: np.ndarray, A: np.ndarray, right: np.ndarray) -> np.ndarray:
    """left'A right for every subject, A (q, q, n), as one product with a Kronecker matrix."""
    return (np.kron(left, right).T @ A.reshape(-1, A.shape[-1])).reshape(A.shape)


def _identity_like(L: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.eye(len(L))[:, :, None], L.shape)
