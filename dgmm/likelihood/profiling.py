"""Maximum likelihood or REML over the free entries of Lambda, all else profiled out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import optimize

from dgmm.latent import Pattern
from dgmm.likelihood.statistics import Statistics, along, sums
from dgmm.likelihood.sufficient import (
    Sufficient,
    generalised,
    profiled_deviance,
    profiled_hessian,
)
from dgmm.numerics.newton import Descents, Evaluations, descend_each

__all__ = [
    "LESS",
    "NEWTON",
    "Profile",
    "maximise",
    "moment_start",
    "near_zero",
    "profile_at",
    "search_each",
    "settled",
]

NEWTON = 1e-4
"""Decrement of the deviance from which one more Newton step reaches the minimum."""

NOTHING = 1e-7
"""Cost in the deviance of an entry that is zero but for rounding."""

LESS = 1e-9
"""Change of the deviance, for each row, that is none."""

SMALL = 0.01
"""Variance that a search begins with at least, relative to the residual one and the largest."""

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
    if not len(pattern.row):
        return profile_at(stats, reml, np.zeros(0), 1, "there is no Lambda")
    used = 0
    if isinstance(stats, Statistics):
        every = stats.among(None)
        found = search_each(every, reml, moment_start(every) if start is None else start[None])
        start, used = found.x[0], int(found.evaluations[0])
        if found.reached[0]:
            return profile_at(stats, reml, start, used, "")
    x = np.where(pattern.on_diagonal, 1.0, 0.0) if start is None else start
    best = _descend(stats, reml, x)
    used += best.evaluations
    for _ in range(RESTARTS):
        low = near_zero(pattern, best.x)
        if not low.any():
            break
        again = _descend(stats, reml, np.where(low, 0.5, best.x))
        used += again.evaluations
        if not again.value < best.value - LESS * stats.N:
            break
        best = again
    x = settled(stats, reml, best.x)
    return profile_at(stats, reml, x, used, best.message, best.converged)


def search_each(stats: Statistics, reml: bool, x: np.ndarray) -> Descents:
    """The Lambda of many models by Newton steps from x (m, E), as :func:`maximise` searches."""
    found = newton_each(stats, reml, x)
    at = np.arange(len(x))
    for _ in range(RESTARTS):
        low = near_zero(stats.pattern, found.x[at])
        at, low = at[low.any(-1)], low[low.any(-1)]
        if not len(at):
            break
        again = newton_each(stats.among(at), reml, np.where(low, 0.5, found.x[at]))
        found.evaluations[at] += again.evaluations
        better = again.value < found.value[at] - LESS * np.asarray(stats.N)[at]
        at = at[better]
        for one, new in zip(found[:4], again[:4], strict=True):
            one[at] = new[better]
    zero = np.where(near_zero(stats.pattern, found.x), 0.0, found.x)
    at = np.flatnonzero((zero != found.x).any(-1))
    if len(at):
        own = stats.among(at)
        cost = profiled_deviance(own, zero[at], reml).value
        cost = cost - profiled_deviance(own, found.x[at], reml).value
        found.x[at[cost < NOTHING]] = zero[at[cost < NOTHING]]
    return found


def profile_at(
    stats: Sufficient, reml: bool, x: np.ndarray, used: int, message: str, done: bool = True
) -> Profile:
    """The record of a Lambda, all else at its conditional maximum."""
    at = profiled_deviance(stats, x, reml)
    value, gradient, S, beta, rss = at.value, at.gradient, at.S, at.beta, at.rss
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
    """Diagonal entries of Lambda that are small beside the largest entry, (..., E) bool."""
    size = np.abs(entries)
    largest = np.maximum(1.0, size.max(-1, keepdims=True))
    low: np.ndarray = pattern.on_diagonal & (size < 0.01 * largest)
    return low


def moment_start(stats: Statistics) -> np.ndarray:
    """Free entries (..., E) of Lambda by the moments of least-squares residuals r (MINQUE(0)).

    With s_i = T_i'r_i the matrix D = Lambda Lambda' and sigma^2 solve

        sum_i A_i D A_i + sigma^2 sum_i A_i = sum_i s_i s_i',
        sum_i tr(A_i D) + sigma^2 N = sum_i r_i'r_i,

    whose expectations these are but for the estimation of beta. D is kept away from singular ones.
    After Rao (1971), J. Multivariate Analysis 1, 257-275.
    """
    A, pattern = stats.A, stats.pattern
    q = len(A)
    v, rss = generalised(stats.C)
    s = along(v, stats.B)
    flat = A.reshape(q * q, *A.shape[2:])
    total = A.sum(-1).reshape(q * q, *A.shape[2:-1])  # (q q, ...)
    total = np.moveaxis(total, 0, -1)
    # A (x) A of every subject in the order of the entries of D
    square = sums(flat, flat).reshape(*total.shape[:-1], q, q, q, q).swapaxes(-3, -2)
    system = np.zeros((*total.shape[:-1], q * q + 1, q * q + 1))
    system[..., :-1, :-1] = square.reshape(*total.shape[:-1], q * q, q * q)
    system[..., -1, :-1] = system[..., :-1, -1] = total
    system[..., -1, -1] = stats.N
    moments = sums(s, s).reshape(total.shape)
    right = np.concatenate([moments, np.asarray(rss)[..., None]], axis=-1)
    found = (np.linalg.pinv(system, hermitian=True) @ right[..., None])[..., 0]
    sigma2 = np.maximum(found[..., -1], SMALL * rss / stats.N)
    D = found[..., :-1].reshape(*total.shape[:-1], q, q) / sigma2[..., None, None]
    value, vector = np.linalg.eigh(0.5 * (D + D.mT))
    value = np.maximum(value, np.maximum(SMALL * value[..., -1:], SMALL))
    Lambda = np.linalg.cholesky((vector * value[..., None, :]) @ vector.mT)
    x: np.ndarray = Lambda[..., pattern.row, pattern.column]
    return x


class _Search(NamedTuple):
    """A search, and where it ended."""

    x: np.ndarray  # (E,)
    value: float  # of the deviance
    evaluations: int
    converged: bool
    message: str


def newton_each(stats: Statistics, reml: bool, x: np.ndarray) -> Descents:
    """The Lambda of many models by Newton steps from x (m, E)."""
    every = len(x)

    def objective(entries: np.ndarray, models: np.ndarray) -> Evaluations:
        own = stats if len(models) == every else stats.among(models)
        at = profiled_deviance(own, entries, reml)
        hessian = profiled_hessian(own, at, reml)
        assert hessian is not None
        return Evaluations(at.value, at.gradient, hessian)

    return descend_each(objective, x, NEWTON)


def _descend(stats: Sufficient, reml: bool, x: np.ndarray) -> _Search:
    """L-BFGS, and a last Newton step."""
    found = _bfgs(stats, reml, x)
    x = _sharpened(stats, reml, found.x)
    value = float(found.fun) * stats.N
    return _Search(x, value, int(found.nfev), bool(found.success), str(found.message))


def _bfgs(stats: Sufficient, reml: bool, x: np.ndarray) -> optimize.OptimizeResult:
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

    Where the Hessian has no closed form it is that of forward differences of the gradient; a flat
    direction gets no step.
    """
    at = profiled_deviance(stats, x, reml)
    value, gradient = at.value, at.gradient
    if np.abs(gradient).max() < 1e-9 * stats.N:
        return x
    H = profiled_hessian(stats, at, reml)
    if H is None:
        h = 1e-5 * max(1.0, float(np.abs(x).max()))
        H = np.array(
            [(profiled_deviance(stats, x + u, reml)[1] - gradient) / h for u in h * np.eye(len(x))]
        )
    moved = x - np.linalg.lstsq(0.5 * (H + H.T), gradient, rcond=1e-10)[0]
    after, slope, *_ = profiled_deviance(stats, moved, reml)
    better = np.abs(slope).max() < np.abs(gradient).max() and after < value + 1e-9 * stats.N
    return moved if better else x


def settled(stats: Sufficient, reml: bool, x: np.ndarray) -> np.ndarray:
    """Diagonal entries that are zero but for rounding, set to zero where that costs nothing."""
    zero = np.where(near_zero(stats.pattern, x), 0.0, x)
    if (zero == x).all():
        return x
    cost = profiled_deviance(stats, zero, reml)[0] - profiled_deviance(stats, x, reml)[0]
    return zero if cost < NOTHING else x
