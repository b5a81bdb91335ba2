"""Priors of one standard deviation by their density, and variances that are known.

    half_normal(A)     sd ~ |N(0, A^2)|
    log_normal(m, s)   log sd ~ N(m, s^2)
    known(V)           Sigma = V

Given ``n`` effects with sum of squares S the first two have no conjugate conditional: a variance is
proposed from the one under a flat prior of the standard deviation and accepted by the prior,

    v' ~ IG{(n - 1)/2, S/2},   min{1, p(sd') / p(sd)},

which is an exact draw where the effects speak and the prior is flat.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from dgmm.bayes.priors import CovariancePrior, positive_definite, positive_number
from dgmm.mcmc import Streams, draw_inverse_gamma
from dgmm.runtime.gate import gate, is_number

__all__ = ["Deviation", "HalfNormal", "Known", "LogNormal", "half_normal", "known", "log_normal"]


class Deviation(CovariancePrior):
    """A prior of one standard deviation with a bounded density."""

    about = "sd"

    @abstractmethod
    def log_density(self, sd: np.ndarray) -> np.ndarray:
        """log p(sd), up to a constant."""

    @abstractmethod
    def deviations(self, streams: Streams) -> np.ndarray:
        """sd (C,) from the prior."""

    def checked(self, q: int, what: str) -> Deviation:
        if q > 1:
            raise ValueError(
                f"{self} is the prior of one standard deviation, and {what} has {q} with their "
                "correlations: write (x || id) for independent effects, or take half_t(), under "
                "which every correlation is uniform"
            )
        return self

    def log_ratio(self, precision: np.ndarray, k: int, c: np.ndarray) -> np.ndarray:
        sd, factor = precision[0, 0] ** -0.5, np.abs(c)
        found: np.ndarray = self.log_density(factor * sd) - self.log_density(sd) - np.log(factor)
        return found

    def draw(
        self, precision: np.ndarray, scatter: np.ndarray, levels: float, streams: Streams
    ) -> np.ndarray:
        proposed = draw_inverse_gamma(0.5 * (levels - 1), 0.5 * scatter, streams)
        now, uniform = 1 / precision, streams.uniform(1)[:, 0]
        ratio = self.log_density(np.sqrt(proposed)) - self.log_density(np.sqrt(now))
        return np.where(np.log(uniform) < ratio, proposed, now)

    def simulate(self, q: int, streams: Streams) -> np.ndarray:
        return np.square(self.deviations(streams))[None, None]


@dataclass(frozen=True)
class HalfNormal(Deviation):
    """sd ~ |N(0, scale^2)|."""

    scale: float

    def log_density(self, sd: np.ndarray) -> np.ndarray:
        found: np.ndarray = -0.5 * np.square(sd / self.scale)
        return found

    def deviations(self, streams: Streams) -> np.ndarray:
        return self.scale * np.abs(streams.normal(1)[:, 0])

    def __str__(self) -> str:
        return f"half_normal({self.scale:g})"


@dataclass(frozen=True)
class LogNormal(Deviation):
    """log sd ~ N(mean, sd^2)."""

    mean: float
    sd: float

    def log_density(self, sd: np.ndarray) -> np.ndarray:
        log = np.log(sd)
        found: np.ndarray = -log - 0.5 * np.square((log - self.mean) / self.sd)
        return found

    def deviations(self, streams: Streams) -> np.ndarray:
        found: np.ndarray = np.exp(self.mean + self.sd * streams.normal(1)[:, 0])
        return found

    def __str__(self) -> str:
        return f"log_normal({self.mean:g}, {self.sd:g})"


@dataclass(frozen=True)
class Known(CovariancePrior):
    """All mass on one matrix."""

    value: tuple[tuple[float, ...], ...]  # rows

    fixed = True

    def checked(self, q: int, what: str) -> Known:
        if len(self.value) != q:
            size = len(self.value)
            raise ValueError(f"known() of {what} is {size} x {size}, and there are {q} effects")
        return self

    def log_ratio(self, precision: np.ndarray, k: int, c: np.ndarray) -> np.ndarray:
        return np.where(c == 1, 0.0, -np.inf)

    def draw(
        self, precision: np.ndarray, scatter: np.ndarray, levels: float, streams: Streams
    ) -> np.ndarray:
        return self.simulate(len(precision), streams)

    def simulate(self, q: int, streams: Streams) -> np.ndarray:
        return np.repeat(np.array(self.value)[:, :, None], streams.chains, axis=2)

    def __str__(self) -> str:
        rows = "; ".join(" ".join(f"{one:.4g}" for one in row) for row in self.value)
        return f"known({rows})" if len(self.value) == 1 else f"known([{rows}])"


@gate
def half_normal(scale: float) -> HalfNormal:
    """The half-normal prior of one standard deviation.

        p(sd) ~ exp(-sd^2 / (2 scale^2)),  sd > 0

    Args:
        scale: standard deviation of the normal distribution that is folded, positive.

    Raises:
        ValueError: a scale that is zero, negative or infinite (an improper prior).

    Example:
        >>> import dgmm
        >>> dgmm.prior(cov=dgmm.half_normal(1), sigma2=dgmm.half_normal(1)).cov.scale
        1.0
    """
    return HalfNormal(positive_number(scale, "scale of half_normal()"))


@gate
def log_normal(mean: float, sd: float) -> LogNormal:
    """The log-normal prior of one standard deviation.

        log sd ~ N(mean, sd^2)

    Args:
        mean: of the logarithm of the standard deviation.
        sd: likewise, positive.

    Raises:
        ValueError: a number that is infinite, or an sd that is not positive.

    Example:
        >>> import dgmm
        >>> str(dgmm.log_normal(0, 0.5))
        'log_normal(0, 0.5)'
    """
    if not is_number(mean) or not np.isfinite(float(mean)):
        raise ValueError(f"mean of log_normal() is a finite number, not {mean!r}")
    return LogNormal(float(mean), positive_number(sd, "sd of log_normal()"))


@gate
def known(value: Any) -> Known:
    """A variance or covariance that is known and not drawn.

    With ``sigma2=known(1)`` and ``weights="precision"`` the variance of the outcome of row i is
    1 / precision_i: a meta-analysis of estimates with their squared standard errors.

    Args:
        value: a variance, or the (q, q) covariance of the effects of a term.

    Raises:
        ValueError: no positive number and no positive definite matrix.

    Example:
        >>> import dgmm
        >>> str(dgmm.known(1))
        'known(1)'
    """
    return Known(positive_definite(value, "known()"))
