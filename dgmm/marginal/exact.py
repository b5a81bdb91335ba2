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
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from dgmm.latent import Normal
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.posterior import find_modes

__all__ = [
    "Deviance",
    "LogLikelihood",
    "Pattern",
    "Profile",
    "Statistics",
    "Sufficient",
    "maximise",
    "per_subject",
    "scaled_rows",
    "statistics",
]


@dataclass(frozen=True)
class Pattern:
    """The free entries of a block diagonal, lower triangular Lambda, in the order of theta.

    Per latent term first its diagonal, then the entries below it row by row.
    """

    row: np.ndarray
    column: np.ndarray
    q: int

    @classmethod
    def of(cls, latents: tuple[Normal, ...]) -> Pattern:
        """Read the blocks off the latent terms."""
        row: list[int] = []
        column: list[int] = []
        first = 0
        for latent in latents:
            size = latent.dim
            below = [] if latent.diagonal else [(r, c) for r in range(size) for c in range(r)]
            for r, c in [(j, j) for j in range(size)] + below:
                row.append(first + r)
                column.append(first + c)
            first += size
        return cls(np.array(row, dtype=int), np.array(column, dtype=int), first)

    @classmethod
    def of_model(cls, model: Model) -> Pattern:
        """The pattern of the linear latent terms of a model."""
        return cls.of(tuple(lat for lat in model.latents if isinstance(lat, Normal)))

    @property
    def on_diagonal(self) -> np.ndarray:
        """True where a free entry lies on the diagonal."""
        return self.row == self.column

    def fill(self, entries: np.ndarray) -> np.ndarray:
        """Lambda (q, q) from its free entries."""
        L = np.zeros((self.q, self.q))
        L[self.row, self.column] = entries
        return L


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


class Scaled(NamedTuple):
    """The rows in units of the model, each times the root of its prior weight."""

    t: np.ndarray  # (q, N) columns of all T
    z: np.ndarray  # (p + 1, N) columns of X, then y
    constant: float  # N log unit^2 - sum log w


def scaled_rows(model: Model, panel: Panel) -> Scaled:
    """y / unit, T scale / unit and X basis / unit of the observed rows of a panel."""
    if not panel.n_rows:
        raise ValueError("no outcome was observed")
    rows, unit = panel.rows, model.unit
    y = (rows.data.y / rows.data.trials - rows.offset).numpy() / unit
    T = np.concatenate(
        [(T * (lat.scale / unit)).numpy() for T, lat in zip(rows.T, model.latents, strict=True)],
        axis=1,
    )
    X = (rows.X @ (model.basis / unit)).numpy()
    weights = rows.data.weights.numpy()
    root = np.sqrt(weights)
    t = np.ascontiguousarray((T * root[:, None]).T)
    z = np.ascontiguousarray((np.column_stack([X, y]) * root[:, None]).T)
    return Scaled(t, z, 2 * len(y) * math.log(unit) - float(np.log(weights).sum()))


def statistics(model: Model, panel: Panel) -> Statistics:
    """One pass over the observed rows of a panel."""
    t, z, constant = scaled_rows(model, panel)
    start = panel.start.numpy()[panel.count.numpy() > 0]

    def sums(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.add.reduceat(a * b, start)

    A = np.array([[sums(a, b) for b in t] for a in t])
    B = np.array([[sums(a, b) for b in z] for a in t])
    log_det = float(torch.linalg.slogdet(model.basis)[1])
    pattern = Pattern.of_model(model)
    return Statistics(A, B, z @ z.T, z.shape[1], constant, model.unit, log_det, pattern)


# -- small Cholesky factors over the last axis ---------------------------------------------------


def _cholesky(M: np.ndarray) -> np.ndarray:
    """Lower factors of M (k, k, n); a non-positive pivot becomes NaN."""
    k = len(M)
    L = np.zeros_like(M)
    for j in range(k):
        L[j, j] = np.sqrt(M[j, j] - (L[j, :j] ** 2).sum(0))
        for i in range(j + 1, k):
            L[i, j] = (M[i, j] - (L[i, :j] * L[j, :j]).sum(0)) / L[j, j]
    return L


def _forward(L: np.ndarray, B: np.ndarray) -> np.ndarray:
    """L^-1 B for L (k, k, n), B (k, c, n)."""
    X = np.empty_like(B)
    for i in range(len(L)):
        X[i] = (B[i] - (L[i, :i, None] * X[:i]).sum(0)) / L[i, i]
    return X


def _backward(L: np.ndarray, B: np.ndarray) -> np.ndarray:
    """L'^-1 B."""
    X = np.empty_like(B)
    for i in reversed(range(len(L))):
        X[i] = (B[i] - (L[i + 1 :, i, None] * X[i + 1 :]).sum(0)) / L[i, i]
    return X


def _times(Lambda: np.ndarray, X: np.ndarray, transpose: bool = False) -> np.ndarray:
    """Lambda X or Lambda'X over the trailing axes of X (q, ...)."""
    return np.tensordot(Lambda.T if transpose else Lambda, X, axes=1)


# -- the objective -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pieces:
    AL: np.ndarray  # A Lambda (q, q, n)
    L: np.ndarray  # chol(M)
    K: np.ndarray  # (q, p + 1, n)
    S: np.ndarray  # (p + 1, p + 1)
    log_det: float


def _pieces(stats: Statistics, Lambda: np.ndarray) -> _Pieces:
    AL = np.einsum("ijn,jk->ikn", stats.A, Lambda)
    M = _times(Lambda, AL, transpose=True)
    q = len(M)
    M[np.arange(q), np.arange(q)] += 1
    L = _cholesky(M)
    K = _forward(L, _times(Lambda, stats.B, transpose=True))
    flat = K.transpose(0, 2, 1).reshape(-1, K.shape[1])
    S = stats.C - flat.T @ flat
    return _Pieces(AL, L, K, S, 2 * float(np.log(L[np.arange(q), np.arange(q)]).sum()))


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
    inverse = _backward(pieces.L, _forward(pieces.L, _identity_like(pieces.L)))
    gradient = 2 * np.einsum("ijn,jkn->ik", pieces.AL, inverse)
    v = np.append(-beta, 1.0)
    g = np.einsum("qcn,c->qn", stats.B, v)
    w = _backward(pieces.L, np.einsum("kcn,c->kn", pieces.K, v)[:, None])[:, 0]
    residual = g - np.einsum("qkn,kn->qn", pieces.AL, w)
    gradient -= 2 * (df / rss) * (residual @ w.T)
    if reml:
        value += 2 * float(np.log(np.diag(factor)).sum()) - 2 * stats.log_det_basis
        W = _backward(pieces.L, pieces.K[:, :p])
        weighted = np.einsum("kpn,pr->krn", W, np.linalg.inv(Sxx))
        rest = stats.B[:, :p] - np.einsum("qkn,kpn->qpn", pieces.AL, W)
        gradient -= 2 * np.einsum("qpn,kpn->qk", rest, weighted)
    free = gradient[stats.pattern.row, stats.pattern.column]
    return Deviance(value, free, pieces.S, beta, rss)


def _identity_like(L: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.eye(len(L))[:, :, None], L.shape)


def maximise(stats: Sufficient, reml: bool = False, start: np.ndarray | None = None) -> Profile:
    """Maximum likelihood (or REML) by L-BFGS-B on the free entries, the diagonal kept >= 0.

    The deviance is divided by N, so that tolerances mean the same for every sample size.
    """
    pattern = stats.pattern
    x = np.where(pattern.on_diagonal, 1.0, 0.0) if start is None else start
    bounds = [(0.0, None) if d else (None, None) for d in pattern.on_diagonal]

    def scaled(entries: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient, *_ = stats.deviance(entries, reml)
        return value / stats.N, gradient / stats.N

    options = {"ftol": 1e-15, "gtol": 1e-9, "maxiter": 500, "maxcor": 30}
    found = optimize.minimize(
        scaled, x, jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )
    value, gradient, S, beta, rss = stats.deviance(found.x, reml)
    df = stats.N - stats.p if reml else stats.N
    sigma2 = rss / df
    free = ~(pattern.on_diagonal & (found.x <= 0))
    flat = bool(np.all(np.abs(gradient[free]) < 1e-3))
    return Profile(
        beta,
        pattern.fill(found.x) * math.sqrt(sigma2),
        0.5 * math.log(sigma2) + math.log(stats.unit),
        -0.5 * value,
        sigma2 * np.linalg.inv(S[: stats.p, : stats.p]),
        int(found.nfev),
        flat or bool(found.success),
        str(found.message),
    )


class LogLikelihood:
    """The unprofiled log-likelihood as a function of the vector theta (beta, latents, log sigma).

    What depends on the variance parameters alone is kept, so second differences in beta cost
    nothing.
    """

    def __init__(self, stats: Sufficient) -> None:
        self.stats = stats
        self._kept: dict[bytes, tuple[np.ndarray, float]] = {}

    def __call__(self, theta: np.ndarray) -> float:
        stats = self.stats
        beta, log_sigma = theta[: stats.p], theta[-1] - math.log(stats.unit)
        S, log_det = self._variance_part(theta[stats.p : -1], log_sigma)
        v = np.append(-beta, 1.0)
        quadratic = float(v @ S @ v) * math.exp(-2 * log_sigma)
        normal = stats.N * (math.log(2 * math.pi) + 2 * log_sigma)
        return -0.5 * (normal + stats.constant + log_det + quadratic)

    def _variance_part(self, entries: np.ndarray, log_sigma: float) -> tuple[np.ndarray, float]:
        key = entries.tobytes() + np.float64(log_sigma).tobytes()
        if key not in self._kept:
            natural = entries.copy()
            diagonal = self.stats.pattern.on_diagonal
            natural[diagonal] = np.exp(natural[diagonal])
            relative = self.stats.pattern.fill(natural) * math.exp(-log_sigma)
            self._kept[key] = self.stats.reduce(relative)
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
