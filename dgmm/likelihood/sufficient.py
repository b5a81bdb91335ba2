"""The Gaussian log-likelihood from sufficient statistics, of one or of several grouping factors.

With Lambda relative to sigma, statistics give S (p + 1, p + 1) and log det M at O(levels) each, and

    -2 l = N log(2 pi sigma^2) - sum log w + log det M + (1, -beta) S (1, -beta)' / sigma^2,

beta and sigma profiled from S. The restricted likelihood integrates beta out: N - p in place of N,
and log det S_xx - 2 log |basis| is added. After Bates, Maechler, Bolker and Walker (2015),
J. Statistical Software 67(1), section 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from dgmm.latent import Pattern
from dgmm.numerics.hessian import Curvature, beside_quadratic, pilot_steps

__all__ = ["Deviance", "GaussianValue", "Reduced", "Sufficient", "profiled_deviance", "relative"]


class Reduced(Protocol):
    """The statistics at some Lambda."""

    @property
    def S(self) -> np.ndarray: ...  # (p + 1, p + 1)
    @property
    def log_det(self) -> float: ...
    def slope(self, v: np.ndarray, precision: float, restricted: bool) -> np.ndarray:
        """The gradient in Lambda (q, q) of log det M + precision v'S v (+ log det S_xx)."""


class Sufficient(Protocol):
    """Sums over rows in units of the model: y / unit, T frame / unit, X basis / unit."""

    @property
    def p(self) -> int: ...
    @property
    def C(self) -> np.ndarray: ...  # (p + 1, p + 1)
    @property
    def origin(self) -> np.ndarray: ...  # (p,): y is y - X origin, whose sums keep their digits
    @property
    def N(self) -> int: ...
    @property
    def constant(self) -> float: ...
    @property
    def unit(self) -> float: ...
    @property
    def log_det_basis(self) -> float: ...
    @property
    def pattern(self) -> Pattern: ...
    def reduce(self, Lambda: np.ndarray) -> Reduced: ...


class Deviance(NamedTuple):
    """Profiled -2 l (restricted if asked for) at some Lambda, and its profiled parameters."""

    value: float
    gradient: np.ndarray  # in the free entries of Lambda
    S: np.ndarray  # (p + 1, p + 1)
    beta: np.ndarray  # (p,)
    rss: float  # |y - X beta - Z Lambda u|^2 + |u|^2 at its minimum


def profiled_deviance(stats: Sufficient, entries: np.ndarray, restricted: bool) -> Deviance:
    """-2 l and its gradient in the free entries of Lambda relative to sigma."""
    found, p = stats.reduce(stats.pattern.fill(entries)), stats.p
    Sxx, Sxy = found.S[:p, :p], found.S[:p, p]
    change = np.linalg.solve(Sxx, Sxy)
    rss = float(found.S[p, p] - Sxy @ change)
    if not rss > 0:
        raise FloatingPointError("the terms of the model fit every outcome exactly")
    df = stats.N - p if restricted else stats.N
    value = df * (1 + math.log(2 * math.pi * rss / df)) + found.log_det + stats.constant
    if restricted:
        value += _log_det(Sxx) - 2 * stats.log_det_basis
    gradient = found.slope(np.append(-change, 1.0), df / rss, restricted)
    free = gradient[stats.pattern.row, stats.pattern.column]
    return Deviance(value, free, found.S, stats.origin + change, rss)


def _log_det(Sxx: np.ndarray) -> float:
    return 2 * float(np.log(np.diag(np.linalg.cholesky(Sxx))).sum())


class _At(NamedTuple):
    """A point taken apart: beta, sigma in units of the model, Lambda relative to sigma."""

    beta: np.ndarray
    sigma: float
    Lambda: np.ndarray


def relative(stats: Sufficient, theta: np.ndarray) -> tuple[np.ndarray, float]:
    """Lambda relative to sigma and sigma in units of the model, of the vector theta."""
    pattern, sigma = stats.pattern, math.exp(theta[-1]) / stats.unit
    entries = theta[stats.p : -1].copy()
    entries[pattern.on_diagonal] = np.exp(entries[pattern.on_diagonal])
    return pattern.fill(entries) / sigma, sigma


@dataclass
class GaussianValue:
    """The unprofiled log-likelihood of the vector theta (beta, latents, log sigma).

    The diagonal of Lambda enters by its logarithm. ``restricted``: beta is integrated out, so the
    value does not depend on that of theta.
    """

    stats: Sufficient
    restricted: bool = False
    # differences in beta cost nothing
    _kept: tuple[bytes, Reduced] | None = field(default=None, init=False, repr=False)

    def __call__(self, theta: np.ndarray) -> float:
        at = self._apart(theta)
        found = self._reduced(theta, at)
        return self._value(found, self._residual(found, at), at.sigma)

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        """dl / d theta, (P,)."""
        at = self._apart(theta)
        found, pattern, p = self._reduced(theta, at), self.stats.pattern, self.stats.p
        v, precision = self._residual(found, at), at.sigma**-2
        slope = -0.5 * found.slope(v, precision, self.restricted)
        entries = slope[pattern.row, pattern.column]
        relative = at.Lambda[pattern.row, pattern.column]
        through = np.where(pattern.on_diagonal, relative, 1 / at.sigma)
        Sv = precision * (found.S @ v)
        log_sigma = float(v @ Sv) - self._df - float(entries @ relative)
        return np.concatenate([Sv[:p], entries * through, [log_sigma]])

    def hessian(self, theta: np.ndarray) -> Curvature:
        """Exact in beta, in which l is quadratic; else central differences of the gradient.

        The restricted likelihood knows nothing of beta: its block is that of the GLS form.
        """
        at, p = self._apart(theta), self.stats.p
        quadratic = -self._reduced(theta, at).S[:p, :p] / at.sigma**2
        return beside_quadratic(quadratic, self.gradient, theta, pilot_steps(self, theta))

    def gls_covariance(self, theta: np.ndarray) -> np.ndarray:
        """(sum X'V^-1 X)^-1, (p, p)."""
        at, p = self._apart(theta), self.stats.p
        return at.sigma**2 * np.linalg.inv(self._reduced(theta, at).S[:p, :p])

    def combination(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Lambda relative to sigma, v and the precision 1 / sigma^2 of v'S v in -2 l."""
        at = self._apart(theta)
        return at.Lambda, self._residual(self._reduced(theta, at), at), at.sigma**-2

    def conditional_beta(self, theta: np.ndarray) -> np.ndarray:
        """beta at its maximum given the other parameters, (p,)."""
        found = self._reduced(theta, self._apart(theta))
        beta: np.ndarray = self.stats.origin - self._generalised(found)[:-1]
        return beta

    # -- variance parameters on the scale of lme4's theta ---------------------------------------

    def variance_vector(self, theta: np.ndarray) -> np.ndarray:
        """psi: free entries of Lambda relative to sigma, then log sigma."""
        at, pattern = self._apart(theta), self.stats.pattern
        return np.append(at.Lambda[pattern.row, pattern.column], math.log(at.sigma))

    def gls_of_variances(self, psi: np.ndarray) -> np.ndarray:
        """(sum X'V^-1 X)^-1 at psi, (p, p)."""
        found = self.stats.reduce(self.stats.pattern.fill(psi[:-1]))
        p = self.stats.p
        return math.exp(2 * psi[-1]) * np.linalg.inv(found.S[:p, :p])

    def variance_gradient(self, psi: np.ndarray) -> np.ndarray:
        """dl / d psi with beta at its conditional maximum."""
        pattern, sigma = self.stats.pattern, math.exp(psi[-1])
        found = self.stats.reduce(pattern.fill(psi[:-1]))
        v, precision = self._generalised(found), sigma**-2
        slope = -0.5 * found.slope(v, precision, self.restricted)
        last = precision * float(v @ found.S @ v) - self._df
        return np.append(slope[pattern.row, pattern.column], last)

    # -- pieces ----------------------------------------------------------------------------------

    @property
    def _df(self) -> int:
        return self.stats.N - self.stats.p if self.restricted else self.stats.N

    def _value(self, found: Reduced, v: np.ndarray, sigma: float) -> float:
        normal = self._df * (math.log(2 * math.pi) + 2 * math.log(sigma))
        total = normal + self.stats.constant + found.log_det
        total += float(v @ found.S @ v) / sigma**2
        if self.restricted:
            p = self.stats.p
            total += _log_det(found.S[:p, :p]) - 2 * self.stats.log_det_basis
        return -0.5 * total

    def _residual(self, found: Reduced, at: _At) -> np.ndarray:
        """v with v'S v the residual sum of squares: at beta, or at its conditional maximum."""
        return (
            self._generalised(found)
            if self.restricted
            else np.append(self.stats.origin - at.beta, 1.0)
        )

    def _generalised(self, found: Reduced) -> np.ndarray:
        p = self.stats.p
        return np.append(-np.linalg.solve(found.S[:p, :p], found.S[:p, p]), 1.0)

    def _apart(self, theta: np.ndarray) -> _At:
        Lambda, sigma = relative(self.stats, theta)
        return _At(theta[: self.stats.p], sigma, Lambda)

    def _reduced(self, theta: np.ndarray, at: _At) -> Reduced:
        key = theta[self.stats.p :].tobytes()
        if self._kept is None or self._kept[0] != key:
            self._kept = (key, self.stats.reduce(at.Lambda))
        return self._kept[1]
