"""What is looked at in residuals: statistics that are zero on average under a right model.

Each is a function of a :class:`Seen`, one data set with one draw of b, and gives contributions of
rows (N, K) or of subjects (n, K); none where the model or the data have nothing of the kind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import special

from dgmm.diagnostics.testing import legendre

__all__ = ["STATISTICS", "Seen", "Statistic"]

TAIL = 0.01
"""Probability of what counts as an outlier."""

MOST_EFFECTS = 4
"""Elements of b that are looked at."""


class Seen(NamedTuple):
    """Residuals of one data set at one draw of b, canonical order."""

    observed: np.ndarray  # (N,) bool
    subject: np.ndarray  # (N,)
    u: np.ndarray  # (N,) given b, one half where the outcome is missing
    population: np.ndarray | None  # (N,) over the population, of completed outcomes, else NaN
    zero: np.ndarray | None  # (N,) 1(y = 0) - P(y = 0 | b) of counts
    varies: bool  # the family has no parameter for the spread of a count
    level: np.ndarray  # (N, q) columns that a mean may depend on, less what the model has of them
    spread: np.ndarray  # (N, q) columns that a spread may depend on, centred
    timed: bool  # rows of a subject are in the order of time
    b: np.ndarray | None  # (n, k)

    @property
    def z(self) -> np.ndarray:
        """Phi^-1(u), zero where the outcome is missing."""
        return np.asarray(special.ndtri(self.u))


class Statistic(NamedTuple):
    """A name and what makes the contributions."""

    name: str
    of: Callable[[Seen], np.ndarray | None]


def uniform(seen: Seen) -> np.ndarray | None:
    """Residuals given b are uniform."""
    return np.where(seen.observed[:, None], legendre(seen.u), 0.0)


def population(seen: Seen) -> np.ndarray | None:
    """Residuals over the population, completed, are uniform."""
    return None if seen.population is None else np.nan_to_num(legendre(seen.population))


def level(seen: Seen) -> np.ndarray | None:
    """Residuals do not follow the square of the mean, or of time."""
    return seen.z[:, None] * seen.level


def spread(seen: Seen) -> np.ndarray | None:
    """Their squares do not follow the mean, or time."""
    return (np.square(seen.z) - seen.observed)[:, None] * seen.spread


def dispersion(seen: Seen) -> np.ndarray | None:
    """Counts vary as much as their family says."""
    return (np.square(seen.z) - seen.observed)[:, None] if seen.varies else None


def zeros(seen: Seen) -> np.ndarray | None:
    """Zeros are as many as expected."""
    return None if seen.zero is None else seen.zero[:, None]


def outliers(seen: Seen) -> np.ndarray | None:
    """Residuals in the outer hundredth are a hundredth."""
    far = 2 * np.minimum(seen.u, 1 - seen.u) < TAIL
    return ((far - TAIL) * seen.observed)[:, None]


def autocorrelation(seen: Seen) -> np.ndarray | None:
    """Consecutive residuals of a subject are not correlated."""
    if not seen.timed:
        return None
    at = np.flatnonzero(seen.observed)
    pair = seen.subject[at[1:]] == seen.subject[at[:-1]]
    if pair.sum() < 2:
        return None
    found, z = np.zeros((len(seen.u), 1)), seen.z
    found[at[1:][pair], 0] = z[at[1:][pair]] * z[at[:-1][pair]]
    return found


def effects(seen: Seen) -> np.ndarray | None:
    """Every element of b is normal: skewness and tails of its draws."""
    if seen.b is None:
        return None
    shares = special.ndtr(seen.b[:, :MOST_EFFECTS])
    return np.concatenate([legendre(one)[:, 2:] for one in shares.T], axis=1)


STATISTICS = tuple(
    Statistic(name, of)
    for name, of in (
        ("uniformity", uniform),
        ("population", population),
        ("mean", level),
        ("spread", spread),
        ("dispersion", dispersion),
        ("zeros", zeros),
        ("outliers", outliers),
        ("autocorrelation", autocorrelation),
        ("effects", effects),
    )
)
