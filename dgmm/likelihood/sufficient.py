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
from typing import Any, NamedTuple, Protocol

import numpy as np

from dgmm.latent import Pattern
from dgmm.likelihood.statistics import Bend
from dgmm.numerics.hessian import Curvature, beside_quadratic, curvature_of, pilot_steps

__all__ = [
    "Deviance",
    "GaussianValue",
    "Reduced",
    "Second",
    "Sufficient",
    "generalised",
    "of_theta",
    "profiled_deviance",
    "profiled_hessian",
    "relative",
    "second_derivatives",
]


class Reduced(Protocol):
    """The statistics at some Lambda."""

    @property
    def form(self) -> str: ...  # how second derivatives are known, in words
    @property
    def S(self) -> np.ndarray: ...  # (p + 1, p + 1)
    @property
    def log_det(self) -> Any: ...
    def slope(self, v: np.ndarray, precision: Any, restricted: bool) -> np.ndarray:
        """The gradient in Lambda (q, q) of log det M + precision v'S v (+ log det S_xx)."""

    def curvature(self, v: np.ndarray, precision: Any, restricted: bool) -> Bend | None:
        """Its second derivatives; None where they have no closed form."""

    @property
    def coefficient_slope(self) -> np.ndarray | None: ...  # of S_xx in Lambda (q, q, p, p)


class Sufficient(Protocol):
    """Sums over rows in units of the model: y / unit, T frame / unit, X basis / unit."""

    @property
    def p(self) -> int: ...
    @property
    def C(self) -> np.ndarray: ...  # (p + 1, p + 1)
    @property
    def origin(self) -> np.ndarray: ...  # (p,): y is y - X origin, whose sums keep their digits
    @property
    def N(self) -> Any: ...
    @property
    def constant(self) -> Any: ...
    @property
    def unit(self) -> Any: ...
    @property
    def log_det_basis(self) -> Any: ...
    @property
    def pattern(self) -> Pattern: ...
    def reduce(self, Lambda: np.ndarray) -> Reduced: ...


class Deviance(NamedTuple):
    """Profiled -2 l (restricted if asked for) at some Lambda, and its profiled parameters.

    Of many models the dots are an axis of theirs.
    """

    value: Any  # (...)
    gradient: np.ndarray  # (..., E) in the free entries of Lambda
    found: Reduced
    beta: np.ndarray  # (..., p)
    v: np.ndarray  # (..., p + 1), v'S v = rss
    rss: Any  # (...) |y - X beta - Z Lambda u|^2 + |u|^2 at its minimum

    @property
    def S(self) -> np.ndarray:
        """The statistics at Lambda, (..., p + 1, p + 1)."""
        return self.found.S


def profiled_deviance(stats: Sufficient, entries: np.ndarray, restricted: bool) -> Deviance:
    """-2 l and its gradient in the free entries (..., E) of Lambda relative to sigma."""
    found = stats.reduce(stats.pattern.fill(entries))
    v, rss = generalised(found.S)
    if np.ndim(rss) == 0 and not rss > 0:  # of many models it is told by a value that is no number
        raise FloatingPointError("the terms of the model fit every outcome exactly")
    df = stats.N - stats.p if restricted else stats.N
    value = df * (1 + np.log(2 * math.pi * rss / df)) + found.log_det + stats.constant
    if restricted:
        value = value + _log_det(found.S[..., :-1, :-1]) - 2 * stats.log_det_basis
    gradient = found.slope(v, df / rss, restricted)
    free = gradient[..., stats.pattern.row, stats.pattern.column]
    return Deviance(value, free, found, stats.origin - v[..., :-1], v, rss)


def generalised(S: np.ndarray) -> tuple[np.ndarray, Any]:
    """v (..., p + 1) with the smallest v'S v, whose last entry is 1, and that value (...)."""
    Sxy = S[..., :-1, -1]
    change = np.linalg.solve(S[..., :-1, :-1], Sxy[..., None])[..., 0]
    v = np.concatenate([-change, np.ones_like(S[..., :1, 0])], axis=-1)
    return v, S[..., -1, -1] - (Sxy * change).sum(-1)


class Second(NamedTuple):
    """Second derivatives of -2 l in beta, the free entries of Lambda, and log sigma."""

    beta: np.ndarray  # (..., p, p)
    beside_beta: np.ndarray  # (..., E, p)
    entries: np.ndarray  # (..., E, E)
    beside_sigma: np.ndarray  # (..., E)
    sigma: Any  # (...)


def second_derivatives(
    stats: Sufficient, found: Reduced, v: np.ndarray, precision: Any, restricted: bool
) -> Second | None:
    """Second derivatives of -2 l at Lambda, v (..., p + 1) and precision; None where not known.

    Lambda is relative to sigma, which enters by the precision of v'S v alone.
    """
    bend = found.curvature(v, precision, restricted)
    if bend is None:
        return None
    row, column = stats.pattern.row, stats.pattern.column
    both = bend.both[..., row, column, :, :][..., row, column]
    mixed, scale = bend.mixed[..., row, column, :], np.asarray(precision)
    return Second(
        2 * scale[..., None, None] * found.S[..., :-1, :-1],
        -mixed[..., :-1],
        both,
        -(mixed @ v[..., None])[..., 0],
        4 * scale * ((v[..., None, :] @ found.S)[..., 0, :] * v).sum(-1),
    )


def profiled_hessian(stats: Sufficient, at: Deviance, restricted: bool) -> np.ndarray | None:
    """Second derivatives (..., E, E) of the profiled -2 l; None where not known."""
    df = stats.N - stats.p if restricted else stats.N
    found = second_derivatives(stats, at.found, at.v, df / at.rss, restricted)
    if found is None:
        return None
    across = found.beside_sigma
    profiled = found.entries - across[..., None] * (across / found.sigma[..., None])[..., None, :]
    hessian: np.ndarray = profiled - _through(found)
    return hessian


def of_theta(
    second: Second,
    relative: np.ndarray,
    slope: np.ndarray,
    sigma: Any,
    Sv: np.ndarray,
    pattern: Pattern,
    restricted: bool,
) -> np.ndarray:
    """Second derivatives (..., P, P) of -2 l in theta: beta, entries, log sigma.

    The entries of theta are sigma times those of Lambda, of the diagonal the logarithms.

    Args:
        second: those in the entries relative to sigma.
        relative: these entries, (..., E).
        slope: of -2 l in them, (..., E).
        sigma: (...), in units of the model.
        Sv: (..., p + 1).
        pattern: of the entries.
        restricted: beta is integrated out, and its block that of the GLS form.
    """
    p, sigma = Sv.shape[-1] - 1, np.asarray(sigma)[..., None]
    through = np.where(pattern.on_diagonal, relative, 1 / sigma)
    among, across = second.entries, second.beside_beta
    if restricted:
        among, across = among - _through(second), np.zeros_like(across)
    turned = (among @ relative[..., None])[..., 0]
    H = np.zeros((*relative.shape[:-1],) + (p + relative.shape[-1] + 1,) * 2)
    H[..., :p, :p] = second.beta
    H[..., p:-1, :p] = across * through[..., None]
    H[..., p:-1, p:-1] = among * through[..., None] * through[..., None, :]
    on = np.arange(p, H.shape[-1] - 1)
    H[..., on, on] += np.where(pattern.on_diagonal, slope * relative, 0.0)
    H[..., p:-1, -1] = (second.beside_sigma - turned - slope) * through
    if not restricted:
        H[..., :p, -1] = 4 * sigma**-2 * Sv[..., :p] - (across * relative[..., None]).sum(-2)
    last = (relative * (turned - 2 * second.beside_sigma + slope)).sum(-1)
    H[..., -1, -1] = second.sigma + last
    H[..., :p, p:-1] = H[..., p:-1, :p].mT
    H[..., -1, :-1] = H[..., :-1, -1]
    return H


def _through(found: Second) -> np.ndarray:
    """What profiling beta takes from the second derivatives in the entries, (..., E, E)."""
    through: np.ndarray = found.beside_beta @ np.linalg.solve(found.beta, found.beside_beta.mT)
    return through


def _log_det(Sxx: np.ndarray) -> Any:
    return 2 * np.log(np.linalg.cholesky(Sxx).diagonal(axis1=-2, axis2=-1)).sum(-1)


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

    def hessian(self, theta: np.ndarray) -> tuple[Curvature, str]:
        """Exact where statistics have second derivatives, else central differences of the gradient;
        and which of the two, in words.

        In beta, in which l is quadratic, it is exact. The restricted likelihood knows nothing of
        beta: its block is that of the GLS form.
        """
        at, p = self._apart(theta), self.stats.p
        found, precision = self._reduced(theta, at), at.sigma**-2
        v = self._residual(found, at)
        second = second_derivatives(self.stats, found, v, precision, self.restricted)
        if second is None:
            quadratic = -precision * found.S[:p, :p]
            curvature = beside_quadratic(quadratic, self.gradient, theta, pilot_steps(self, theta))
            return curvature, "observed information, central differences"
        slope, pattern = found.slope(v, precision, self.restricted), self.stats.pattern
        relative, slope = (one[pattern.row, pattern.column] for one in (at.Lambda, slope))
        Sv = found.S @ v
        H = of_theta(second, relative, slope, at.sigma, Sv, pattern, self.restricted)
        return curvature_of(-0.5 * H), found.form

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

    def variance_moments(self, theta: np.ndarray) -> tuple[np.ndarray, ...] | None:
        """GLS covariance, its slopes in psi, the information about psi; None where not known."""
        at, pattern = self._apart(theta), self.stats.pattern
        found = self._reduced(theta, at)
        v, precision = self._generalised(found), at.sigma**-2
        second = second_derivatives(self.stats, found, v, precision, self.restricted)
        slope = found.coefficient_slope
        if second is None or slope is None:
            return None
        G = np.linalg.inv(found.S[:-1, :-1])
        own = -G @ slope[pattern.row, pattern.column] @ G
        gls = at.sigma**2 * G
        information = np.empty((len(own) + 1,) * 2)
        information[:-1, :-1] = 0.5 * (second.entries - _through(second))
        information[-1, :-1] = information[:-1, -1] = 0.5 * second.beside_sigma
        information[-1, -1] = 0.5 * second.sigma
        return gls, np.concatenate([at.sigma**2 * own, 2 * gls[None]]), information

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
        return generalised(found.S)[0]

    def _apart(self, theta: np.ndarray) -> _At:
        Lambda, sigma = relative(self.stats, theta)
        return _At(theta[: self.stats.p], sigma, Lambda)

    def _reduced(self, theta: np.ndarray, at: _At) -> Reduced:
        key = theta[self.stats.p :].tobytes()
        if self._kept is None or self._kept[0] != key:
            self._kept = (key, self.stats.reduce(at.Lambda))
        return self._kept[1]
