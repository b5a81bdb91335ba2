"""log p(y; theta) in closed form: Gaussian outcome, identity link, linear latent structures.

One pass over the rows gives, per subject, A_i = T_i'W T_i, B_i = T_i'W [X_i y_i] and the total
C = [X y]'W[X y] (W prior weights). With Lambda relative to sigma every evaluation then costs O(n):

    M_i = I + Lambda'A_i Lambda,   K_i = chol(M_i)^-1 Lambda'B_i,   S = C - sum_i K_i'K_i,
    -2 l = N log(2 pi sigma^2) - sum log w + sum_i log det M_i + (1, -beta) S (1, -beta)' / sigma^2,

beta and sigma profiled from S. Arrays keep subjects on the last, contiguous axis and the small
Cholesky factors are written out over it. After Bates, Maechler, Bolker and Walker (2015),
J. Statistical Software 67(1), section 3, per subject instead of sparse.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from dgmm.latent import Pattern
from dgmm.model import Model
from dgmm.numerics.cholesky import backward, cholesky, forward, log_det
from dgmm.numerics.hessian import Curvature, curvature_of
from dgmm.numerics.triangle import ROWS
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.posterior.modes import find_modes

RESTARTS = 4

__all__ = [
    "Deviance",
    "LogLikelihood",
    "Profile",
    "Statistics",
    "Sufficient",
    "maximise",
    "per_subject",
    "scaled_rows",
    "statistics",
]


@dataclass(frozen=True)
class Statistics:
    """Sufficient statistics in units of the model: y / unit, T scale / unit, X basis / unit."""

    A: np.ndarray  # (q, q, n)
    B: np.ndarray  # (q, p + 1, n), last column for y
    C: np.ndarray  # (p + 1, p + 1)
    N: int
    constant: float  # N log unit^2 - sum log w
    unit: float
    log_det_basis: float  # log |basis|: the restricted likelihood is about X as written
    pattern: Pattern

    @property
    def p(self) -> int:
        """Number of linear coefficients."""
        return self.C.shape[0] - 1

    def reduce(self, Lambda: np.ndarray) -> tuple[np.ndarray, float]:
        """S (p + 1, p + 1) and sum_i log det M_i at Lambda relative to sigma."""
        pieces = _pieces(self, Lambda)
        return pieces.S, pieces.log_det

    def deviance(self, entries: np.ndarray, reml: bool) -> Deviance:
        """The profiled deviance at the free entries of Lambda relative to sigma."""
        return _deviance(entries, self, reml)


class Deviance(NamedTuple):
    """Profiled -2 l (restricted if reml) at some Lambda, and what was profiled out."""

    value: float
    gradient: np.ndarray  # in the free entries of Lambda
    S: np.ndarray  # (p + 1, p + 1)
    beta: np.ndarray  # (p,)
    rss: float  # |y - X beta - Z Lambda u|^2 + |u|^2 at its minimum


class Sufficient(Protocol):
    """What maximise() and LogLikelihood need: statistics per subject, or of crossed factors."""

    @property
    def p(self) -> int: ...
    @property
    def N(self) -> int: ...
    @property
    def constant(self) -> float: ...
    @property
    def unit(self) -> float: ...
    @property
    def pattern(self) -> Pattern: ...
    def reduce(self, Lambda: np.ndarray) -> tuple[np.ndarray, float]: ...
    def deviance(self, entries: np.ndarray, reml: bool) -> Deviance: ...


@dataclass(frozen=True)
class Profile:
    """The maximum of the (restricted) likelihood, on the scale of theta."""

    beta: np.ndarray  # (p,)
    Lambda: np.ndarray  # (q, q) in units of the model
    log_sigma: float
    log_likelihood: float  # restricted if reml
    vcov_gls: np.ndarray  # (p, p): (sum X'V^-1 X)^-1
    evaluations: int
    converged: bool
    message: str


def statistics(model: Model, panel: Panel) -> Statistics:
    """One pass over the observed rows of a panel, some subjects at a time."""
    if not panel.n_rows:
        raise ValueError("no outcome was observed")
    start = panel.start.numpy()[panel.count.numpy() > 0]
    q, p, n, N = sum(lat.dim for lat in model.latents), len(model.names), len(start), panel.n_rows
    A, B, C = np.empty((q, q, n)), np.empty((q, p + 1, n)), np.zeros((p + 1, p + 1))
    log_weights = 0.0
    for subjects, rows in _runs(start, N):
        t, z, weights = _columns(model, panel, rows)
        inside = start[subjects] - rows.start
        for j, column in enumerate(t):
            A[j, :, subjects] = np.add.reduceat(column * t, inside, axis=-1)
            B[j, :, subjects] = np.add.reduceat(column * z, inside, axis=-1)
        C += z @ z.T
        log_weights += float(np.log(weights).sum())
    constant = 2 * N * math.log(model.unit) - log_weights
    basis_det = float(torch.linalg.slogdet(model.basis)[1])
    return Statistics(A, B, C, N, constant, model.unit, basis_det, Pattern.of(model.latents))


class Scaled(NamedTuple):
    """The rows in units of the model, each times the root of its prior weight."""

    t: np.ndarray  # (q, N) columns of all T
    z: np.ndarray  # (p + 1, N) columns of X, then y
    constant: float  # N log unit^2 - sum log w


def scaled_rows(model: Model, panel: Panel) -> Scaled:
    """y / unit, T scale / unit and X basis / unit of the observed rows of a panel."""
    if not panel.n_rows:
        raise ValueError("no outcome was observed")
    t, z, weights = _columns(model, panel, slice(0, panel.n_rows))
    constant = 2 * panel.n_rows * math.log(model.unit) - float(np.log(weights).sum())
    return Scaled(t, z, constant)


def _runs(start: np.ndarray, N: int) -> Iterator[tuple[slice, slice]]:
    """Consecutive subjects with their rows, a cache's worth (or one subject) at a time."""
    first = 0
    while first < len(start):
        last = max(int(np.searchsorted(start, start[first] + ROWS)), first + 1)
        end = int(start[last]) if last < len(start) else N
        yield slice(first, last), slice(int(start[first]), end)
        first = last


def _columns(model: Model, panel: Panel, at: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Some rows of W^(1/2) T (q, m) and W^(1/2) [X y] (p + 1, m) in units of the model, and w."""
    rows, unit = panel.rows, model.unit
    y, trials, weights = (column[at].numpy() for column in rows.data)
    root = np.sqrt(weights)
    scale = torch.cat([latent.scale for latent in model.latents]).numpy() / unit
    t = np.concatenate([T[at].numpy().T for T in rows.T]) * scale[:, None]
    z = np.empty((len(model.names) + 1, len(y)))
    np.matmul(model.basis.numpy().T / unit, rows.X[at].numpy().T, out=z[:-1])
    z[-1] = (y / trials - rows.offset[at].numpy()) / unit
    t *= root
    z *= root
    return t, z, weights


def _between(left: np.ndarray, A: np.ndarray, right: np.ndarray) -> np.ndarray:
    """left'A right for every subject, A (q, q, n), as one product with a Kronecker matrix."""
    return (np.kron(left, right).T @ A.reshape(-1, A.shape[-1])).reshape(A.shape)


# -- the objective -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pieces:
    L: np.ndarray  # chol(M) (q, q, n)
    K: np.ndarray  # (q, p + 1, n)
    S: np.ndarray  # (p + 1, p + 1)
    log_det: float


def _pieces(stats: Statistics, Lambda: np.ndarray) -> _Pieces:
    M = _between(Lambda, stats.A, Lambda)
    q = len(M)
    M[np.arange(q), np.arange(q)] += 1
    L = cholesky(M)
    K = forward(L, np.tensordot(Lambda.T, stats.B, axes=1))
    S = stats.C - sum(k @ k.T for k in K)
    return _Pieces(L, K, S, float(log_det(L).sum()))


def _deviance(entries: np.ndarray, stats: Statistics, reml: bool) -> Deviance:
    """Profiled -2 l and its gradient in the free entries of Lambda (relative to sigma)."""
    Lambda = stats.pattern.fill(entries)
    pieces, p = _pieces(stats, Lambda), stats.p
    Sxx, Sxy = pieces.S[:p, :p], pieces.S[:p, p]
    factor = np.linalg.cholesky(Sxx)
    beta = np.linalg.solve(Sxx, Sxy)
    rss = float(pieces.S[p, p] - Sxy @ beta)
    df = stats.N - p if reml else stats.N
    value = df * (1 + math.log(2 * math.pi * rss / df)) + pieces.log_det + stats.constant
    AL = _between(np.eye(len(Lambda)), stats.A, Lambda)
    gradient = _slope(stats, AL, pieces, beta, df / rss)
    if reml:
        value += 2 * float(np.log(np.diag(factor)).sum()) - 2 * stats.log_det_basis
        W = backward(pieces.L, pieces.K[:, :p])
        weighted = np.einsum("kpn,pr->krn", W, np.linalg.inv(Sxx))
        rest = stats.B[:, :p] - np.einsum("qkn,kpn->qpn", AL, W)
        gradient -= 2 * np.einsum("qpn,kpn->qk", rest, weighted)
    free = gradient[stats.pattern.row, stats.pattern.column]
    return Deviance(value, free, pieces.S, beta, rss)


def _slope(
    stats: Statistics, AL: np.ndarray, pieces: _Pieces, beta: np.ndarray, precision: float
) -> np.ndarray:
    """The gradient in Lambda of sum_i log det M_i + precision (1, -beta) S (1, -beta)', (q, q).

    AL (q, q, n) is A_i Lambda.
    """
    inverse = backward(pieces.L, forward(pieces.L, _identity_like(pieces.L)))
    v = np.append(-beta, 1.0)
    w = backward(pieces.L, np.tensordot(v, pieces.K, axes=([0], [1]))[:, None])[:, 0]
    residual = np.tensordot(v, stats.B, axes=([0], [1])) - (AL * w).sum(1)
    trace: np.ndarray = np.einsum("ijn,jkn->ik", AL, inverse)
    return 2 * (trace - precision * (residual @ w.T))


def _identity_like(L: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.eye(len(L))[:, :, None], L.shape)


def maximise(stats: Sufficient, reml: bool = False, start: np.ndarray | None = None) -> Profile:
    """Maximum likelihood (or REML) over the free entries of Lambda, of either sign.

    The deviance is even in every column of Lambda, so a bound at zero would hold the search there
    though the optimum lies elsewhere; instead the search is free, and begins again with a larger
    entry wherever the diagonal came near zero, until that no longer helps.
    """
    pattern = stats.pattern
    x = np.where(pattern.on_diagonal, 1.0, 0.0) if start is None else start
    found = _descend(stats, reml, x)
    used = int(found.nfev)
    for _ in range(RESTARTS):
        low = near_zero(pattern, found.x)
        if not low.any():
            break
        again = _descend(stats, reml, np.where(low, 0.5, found.x))
        used += int(again.nfev)
        if not again.fun < found.fun - 1e-9:
            break
        found = again
    x = _settled(stats, reml, _sharpened(stats, reml, found.x))
    value, gradient, S, beta, rss = stats.deviance(x, reml)
    df = stats.N - stats.p if reml else stats.N
    sigma2 = rss / df
    Lambda = pattern.fill(x)
    Lambda = Lambda * np.where(np.diag(Lambda) < 0, -1.0, 1.0)
    return Profile(
        beta,
        Lambda * math.sqrt(sigma2),
        0.5 * math.log(sigma2) + math.log(stats.unit),
        -0.5 * value,
        sigma2 * np.linalg.inv(S[: stats.p, : stats.p]),
        used,
        bool(np.all(np.abs(gradient) < 1e-3)) or bool(found.success),
        str(found.message),
    )


def near_zero(pattern: Pattern, entries: np.ndarray) -> np.ndarray:
    """Diagonal entries of Lambda that are small beside the largest entry, (E,) bool."""
    largest = max(1.0, float(np.abs(entries).max()))
    return pattern.on_diagonal & (np.abs(entries) < 0.01 * largest)


def _descend(stats: Sufficient, reml: bool, x: np.ndarray) -> optimize.OptimizeResult:
    """L-BFGS on the deviance over N, so that tolerances mean the same for every sample size.

    It ends where the deviance is flat to rounding, beyond which no line search could see.
    """

    def scaled(entries: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient, *_ = stats.deviance(entries, reml)
        return value / stats.N, gradient / stats.N

    options = {"ftol": 1e-15, "gtol": 1e-7, "maxiter": 500, "maxcor": 30}
    return optimize.minimize(scaled, x, jac=True, method="L-BFGS-B", options=options)


def _sharpened(stats: Sufficient, reml: bool, x: np.ndarray) -> np.ndarray:
    """One Newton step, kept if it makes the gradient smaller and costs nothing.

    The Hessian is that of forward differences of the gradient; a flat direction gets no step.
    """
    value, gradient, *_ = stats.deviance(x, reml)
    if np.abs(gradient).max() < 1e-9 * stats.N:
        return x
    h = 1e-5 * max(1.0, float(np.abs(x).max()))
    H = np.array([(stats.deviance(x + u, reml)[1] - gradient) / h for u in h * np.eye(len(x))])
    moved = x - np.linalg.lstsq(0.5 * (H + H.T), gradient, rcond=1e-10)[0]
    after, slope, *_ = stats.deviance(moved, reml)
    better = np.abs(slope).max() < np.abs(gradient).max() and after < value + 1e-9 * stats.N
    return moved if better else x


def _settled(stats: Sufficient, reml: bool, x: np.ndarray) -> np.ndarray:
    """Diagonal entries that are zero but for rounding, set to zero where that costs nothing."""
    zero = np.where(near_zero(stats.pattern, x), 0.0, x)
    if (zero == x).all():
        return x
    cost = stats.deviance(zero, reml)[0] - stats.deviance(x, reml)[0]
    return zero if cost < 1e-7 else x


class LogLikelihood:
    """The unprofiled log-likelihood as a function of the vector theta (beta, latents, log sigma).

    What depends on the variance parameters alone is kept, so differences in beta cost nothing.
    """

    def __init__(self, stats: Sufficient) -> None:
        self.stats = stats
        self._kept: dict[bytes, tuple[np.ndarray, float]] = {}

    def __call__(self, theta: np.ndarray) -> float:
        stats = self.stats
        beta, log_sigma = theta[: stats.p], theta[-1] - math.log(stats.unit)
        S, log_det = self._variance_part(theta)
        v = np.append(-beta, 1.0)
        quadratic = float(v @ S @ v) * math.exp(-2 * log_sigma)
        normal = stats.N * (math.log(2 * math.pi) + 2 * log_sigma)
        return -0.5 * (normal + stats.constant + log_det + quadratic)

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        """dl / d theta, (P,): Lambda enters relative to sigma, with the logs of its diagonal."""
        assert isinstance(self.stats, Statistics)
        stats, pattern = self.stats, self.stats.pattern
        beta, precision = theta[: stats.p], self._sigma(theta) ** -2
        Lambda = self._relative(theta)
        pieces = _pieces(stats, Lambda)
        AL = _between(np.eye(len(Lambda)), stats.A, Lambda)
        slope = -0.5 * _slope(stats, AL, pieces, beta, precision)
        v = np.append(-beta, 1.0)
        Sv = precision * (pieces.S @ v)
        entries = slope[pattern.row, pattern.column]
        relative = Lambda[pattern.row, pattern.column]
        through = np.where(pattern.on_diagonal, relative, 1 / self._sigma(theta))
        log_sigma = float(v @ Sv) - stats.N - float(entries @ relative)
        return np.concatenate([Sv[:-1], entries * through, [log_sigma]])

    def hessian(self, theta: np.ndarray, step: np.ndarray) -> Curvature:
        """Exact in beta, in which l is quadratic; else central differences of the gradient."""
        p, P = self.stats.p, len(theta)
        S, _ = self._variance_part(theta)
        H = np.empty((P, P))
        H[:p, :p] = -S[:p, :p] / self._sigma(theta) ** 2
        for j in range(p, P):
            h = np.zeros(P)
            h[j] = step[j]
            H[j] = (self.gradient(theta + h) - self.gradient(theta - h)) / (2 * step[j])
            H[:p, j] = H[j, :p]
        return curvature_of(H)

    def _sigma(self, theta: np.ndarray) -> float:
        return math.exp(theta[-1]) / self.stats.unit

    def _relative(self, theta: np.ndarray) -> np.ndarray:
        """Lambda (q, q) relative to sigma."""
        entries = self.stats.pattern.of_logged(theta[self.stats.p : -1])
        return self.stats.pattern.fill(entries) / self._sigma(theta)

    def _variance_part(self, theta: np.ndarray) -> tuple[np.ndarray, float]:
        key = theta[self.stats.p :].tobytes()
        if key not in self._kept:
            self._kept[key] = self.stats.reduce(self._relative(theta))
        return self._kept[key]


def per_subject(model: Model, theta: Theta, panel: Panel) -> Tensor:
    """l_i = log p(y_i, b) - log p(b | y_i) at the mode, (n,): exact because b | y is Gaussian."""
    out = torch.zeros(panel.n, dtype=torch.float64)
    ready = model.prepare(theta)
    for block in panel.blocks():
        anchor = find_modes(model, theta, block)
        joint = model.log_joint(ready, anchor.mode, block)
        out[block.subjects] = joint + anchor.log_det_root + 0.5 * model.k * math.log(2 * math.pi)
    return out
