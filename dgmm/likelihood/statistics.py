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
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgmm.latent import Pattern
from dgmm.model import Model
from dgmm.numerics.cholesky import backward, cholesky, forward, log_det
from dgmm.numerics.triangle import ROWS
from dgmm.panel import Panel

__all__ = ["Bend", "Scaled", "Statistics", "along", "scaled_rows", "statistics", "sums"]

SCALARS = ("N", "constant", "unit", "log_det_basis")

LARGE = 1e4
"""Sum of squares of y beside that of its residuals from which on the sums lose too many digits."""

REFINEMENTS = 3
"""Most times that the least-squares fit is taken off: each leaves 1e-16 of what was there."""


class Bend(NamedTuple):
    """Second derivatives in the entries of Lambda, and in them beside v."""

    both: np.ndarray  # (..., q, q, q, q)
    mixed: np.ndarray  # (..., q, q, p + 1)


@dataclass(frozen=True)
class Statistics:
    """Sums over the rows of every subject, in units of the model.

    Of many models at once the dots are an axis of theirs, and N, constant, unit and log_det_basis
    have a value of each; a subject that a model does not have is zero in A and B.
    """

    A: np.ndarray  # (q, q, ..., n)
    B: np.ndarray  # (q, p + 1, ..., n), last column for y
    C: np.ndarray  # (..., p + 1, p + 1)
    origin: np.ndarray  # (..., p)
    N: Any
    constant: Any  # N log unit^2 - sum log w
    unit: Any
    log_det_basis: Any  # log |basis|: the restricted likelihood is about X as written
    pattern: Pattern

    @property
    def p(self) -> int:
        """Number of linear coefficients."""
        return int(self.C.shape[-1]) - 1

    def among(self, models: Any) -> Statistics:
        """The statistics of some models, or of the one model there is as one of many: None."""
        own = {one: getattr(self, one)[models] for one in ("C", "origin")}
        own |= {one: np.asarray(getattr(self, one))[models] for one in SCALARS}
        return replace(self, A=self.A[:, :, models], B=self.B[:, :, models], **own)

    def reduce(self, Lambda: np.ndarray) -> Pieces:
        """S, sum_i log det M_i and their gradient at Lambda (..., q, q) relative to sigma."""
        AL = _right(self.A, Lambda)
        M = _right(AL.swapaxes(0, 1), Lambda)
        for k in range(len(M)):
            M[k, k] += 1
        L = cholesky(M)
        K = forward(L, _right(self.B.swapaxes(0, 1), Lambda).swapaxes(0, 1))
        S = self.C - sum(sums(k, k) for k in K)
        return Pieces(self, Lambda, AL, L, K, S, log_det(L).sum(-1))


@dataclass(frozen=True)
class Pieces:
    """The statistics at some Lambda."""

    form = "observed information in closed form"

    stats: Statistics
    Lambda: np.ndarray  # (..., q, q)
    AL: np.ndarray  # A_i Lambda (q, q, ..., n)
    L: np.ndarray  # chol(M) (q, q, ..., n)
    K: np.ndarray  # (q, p + 1, ..., n)
    S: np.ndarray  # (..., p + 1, p + 1)
    log_det: Any  # (...)

    @cached_property
    def inverse(self) -> np.ndarray:
        """M_i^-1, (q, q, ..., n)."""
        q, shape = len(self.L), self.L.shape
        identity = np.eye(q).reshape(q, q, *(1,) * (len(shape) - 2))
        return backward(self.L, forward(self.L, np.broadcast_to(identity, shape)))

    @cached_property
    def effects(self) -> np.ndarray:
        """W_i = M_i^-1 Lambda'B_i, (q, p + 1, ..., n)."""
        return backward(self.L, self.K)

    @cached_property
    def rest(self) -> np.ndarray:
        """B_i - A_i Lambda W_i, (q, p + 1, ..., n)."""
        return self.stats.B - _inner(self.AL, self.effects)

    def slope(self, v: np.ndarray, precision: Any, restricted: bool) -> np.ndarray:
        """The gradient in Lambda of sum_i log det M_i + precision v'S v (+ log det S_xx).

        v: (..., p + 1); precision: (...).
        """
        w = backward(self.L, along(v, self.K)[:, None])[:, 0]
        residual = along(v, self.stats.B) - (self.AL * w).sum(1)
        trace = sum(sums(self.AL[:, j], one) for j, one in enumerate(self.inverse))
        slope = 2 * (trace - _over(precision, 2) * sums(residual, w))
        if restricted:
            weighted = _right(self.effects[:, :-1], np.linalg.inv(self._Sxx))
            for j in range(self.stats.p):
                slope -= 2 * sums(self.rest[:, j], weighted[:, j])
        return np.asarray(slope)

    def curvature(self, v: np.ndarray, precision: Any, restricted: bool) -> Bend:
        """Second derivatives of the function whose gradient is :meth:`slope`.

        With H = M^-1, N = A Lambda H, Q = A - N Lambda'A, w = W v, r = (B - A Lambda W) v, that in
        Lambda_ab and Lambda_cd is twice the sum over subjects of

            Q_ac (H + precision w w')_bd - H_bd precision r_a r_c
            - (N - precision r w')_ad (N - precision r w')_cb + precision^2 r_a w_d r_c w_b.
        """
        stats, H, AL, q = self.stats, self.inverse, self.AL, len(self.L)
        N = _inner(AL, H)
        Q = stats.A - _inner(N, AL.swapaxes(0, 1))
        w, r = along(v, self.effects), along(v, self.rest)
        scale = np.asarray(precision)[..., None]
        ww, rw, rr = (scale * x[:, None] * y for x, y in ((w, w), (r, w), (r, r)))
        if restricted:
            G = np.linalg.inv(self._Sxx)
            W, R = self.effects[:, :-1], self.rest[:, :-1]
            GW, GR = _right(W, G).swapaxes(0, 1), _right(R, G).swapaxes(0, 1)
            ww, rw, rr = ww + _inner(W, GW), rw + _inner(R, GW), rr + _inner(R, GR)
        left = _pairs(Q, H + ww) - _pairs(rr, H)  # (..., a, c, b, d)
        right = _pairs(rw, rw) - _pairs(N - rw, N - rw)  # (..., a, d, c, b)
        both = 2 * (left.swapaxes(-3, -2) + right.swapaxes(-3, -1))
        mixed = [sums(self.rest[:, j], w) + sums(r, self.effects[:, j]) for j in range(stats.p + 1)]
        if restricted:
            moved = G[..., None, None, :, :] @ self.coefficient_slope
            flat = moved.reshape(*moved.shape[:-4], q * q, -1)
            back = moved.mT.reshape(flat.shape)
            both = both - (flat @ back.mT).reshape(both.shape)
        return Bend(both, -2 * _over(precision, 3) * np.stack(mixed, axis=-1))

    @cached_property
    def coefficient_slope(self) -> np.ndarray:
        """The slope of S_xx in Lambda, (..., q, q, p, p)."""
        T = _pairs(self.rest[:, :-1], self.effects[:, :-1]).swapaxes(-3, -2)
        return -(T + T.mT)

    @property
    def _Sxx(self) -> np.ndarray:
        p = self.stats.p
        return self.S[..., :p, :p]


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


def _right(X: np.ndarray, Lambda: np.ndarray) -> np.ndarray:
    """sum_j X[i, j] Lambda[j, k] of every subject, X (a, q, ..., n)."""
    return (Lambda.mT @ X.swapaxes(1, -2)).swapaxes(1, -2)


def _inner(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """sum_j X[i, j] Y[j, k] of every subject, (a, q, ..., n) and (q, b, ..., n)."""
    found: np.ndarray = sum(x[:, None] * y for x, y in zip(X.swapaxes(0, 1), Y, strict=True))
    return found


def along(v: np.ndarray, X: np.ndarray) -> np.ndarray:
    """sum_j X[i, j] v[j] of every subject, X (a, p + 1, ..., n)."""
    return (v[..., None, :] @ X.swapaxes(1, -2))[..., 0, :]


def sums(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """sum_i X[a] Y[b] over subjects, (..., a, b)."""
    return X.swapaxes(0, -2) @ Y.swapaxes(0, -2).mT


def _pairs(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """sum_i X[a, b] Y[c, d] over subjects, (..., a, b, c, d)."""
    found = sums(X.reshape(-1, *X.shape[2:]), Y.reshape(-1, *Y.shape[2:]))
    return found.reshape(*found.shape[:-2], *X.shape[:2], *Y.shape[:2])


def _over(values: Any, axes: int) -> np.ndarray:
    """Values (...) with further axes of length one."""
    found = np.asarray(values)
    return found.reshape(*found.shape, *(1,) * axes)
