"""Maximum likelihood or REML over the free entries of Lambda, all else profiled out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from dgmm.latent import Pattern
from dgmm.likelihood.sufficient import Sufficient, profiled_deviance

__all__ = ["Profile", "maximise", "near_zero"]

RESTARTS = 4
"""Most searches from a larger entry where the diagonal of Lambda came near zero."""


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


def maximise(stats: Sufficient, reml: bool = False, start: np.ndarray | None = None) -> Profile:
    """Maximum likelihood (or REML) over the free entries of Lambda, of either sign.

    The deviance is even in every column of Lambda, so a bound at zero would hold the search there
    though the optimum lies elsewhere; instead the search is free, and begins again with a larger
    entry wherever the diagonal came near zero, until that no longer helps.
    """
    pattern = stats.pattern
    x = np.where(pattern.on_diagonal, 1.0, 0.0) if start is None else start
    if not len(x):
        return _profile(stats, reml, x, 1, "there is no Lambda")
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
    return _profile(stats, reml, x, used, str(found.message), bool(found.success))


def _profile(
    stats: Sufficient, reml: bool, x: np.ndarray, used: int, message: str, done: bool = True
) -> Profile:
    """The record of a Lambda, all else at its conditional maximum."""
    value, gradient, S, beta, rss = profiled_deviance(stats, x, reml)
    df = stats.N - stats.p if reml else stats.N
    sigma2 = rss / df
    Lambda = stats.pattern.fill(x)
    Lambda = Lambda * np.where(np.diag(Lambda) < 0, -1.0, 1.0)
    return Profile(
        beta,
        Lambda * math.sqrt(sigma2),
        0.5 * math.log(sigma2) + math.log(stats.unit),
        -0.5 * value,
        sigma2 * np.linalg.inv(S[: stats.p, : stats.p]),
        used,
        bool(np.all(np.abs(gradient) < 1e-3)) or done,
        message,
    )


def near_zero(pattern: Pattern, entries: np.ndarray) -> np.ndarray:
    """Diagonal entries of Lambda that are small beside the largest entry, (E,) bool."""
    largest = max(1.0, float(np.abs(entries).max()))
    return pattern.on_diagonal & (np.abs(entries) < 0.01 * largest)


def _descend(stats: Sufficient, reml: bool, x: np.ndarray) -> optimize.OptimizeResult:
    """L-BFGS on the deviance over N, so that tolerances mean the same for every sample size.

    It ends a little before the deviance is flat to rounding, where line searches lose their way; a
    Newton step does the rest.
    """

    def scaled(entries: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient, *_ = profiled_deviance(stats, entries, reml)
        return value / stats.N, gradient / stats.N

    options = {"ftol": 1e-14, "gtol": 1e-6, "maxiter": 500, "maxcor": 30}
    return optimize.minimize(scaled, x, jac=True, method="L-BFGS-B", options=options)


def _sharpened(stats: Sufficient, reml: bool, x: np.ndarray) -> np.ndarray:
    """One Newton step, kept if it makes the gradient smaller and costs nothing.

    The Hessian is that of forward differences of the gradient; a flat direction gets no step.
    """
    value, gradient, *_ = profiled_deviance(stats, x, reml)
    if np.abs(gradient).max() < 1e-9 * stats.N:
        return x
    h = 1e-5 * max(1.0, float(np.abs(x).max()))
    H = np.array(
        [(profiled_deviance(stats, x + u, reml)[1] - gradient) / h for u in h * np.eye(len(x))]
    )
    moved = x - np.linalg.lstsq(0.5 * (H + H.T), gradient, rcond=1e-10)[0]
    after, slope, *_ = profiled_deviance(stats, moved, reml)
    better = np.abs(slope).max() < np.abs(gradient).max() and after < value + 1e-9 * stats.N
    return moved if better else x


def _settled(stats: Sufficient, reml: bool, x: np.ndarray) -> np.ndarray:
    """Diagonal entries that are zero but for rounding, set to zero where that costs nothing."""
    zero = np.where(near_zero(stats.pattern, x), 0.0, x)
    if (zero == x).all():
        return x
    cost = profiled_deviance(stats, zero, reml)[0] - profiled_deviance(stats, x, reml)[0]
    return zero if cost < 1e-7 else x
