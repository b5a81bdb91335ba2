"""The maximum of a Gaussian (restricted) likelihood with several grouping factors.

Steps by the average of the observed and the expected information, from moments. They come nearer by
the square root of the number of levels each time, where an evaluation is what takes the time.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dgmm.likelihood.crossed_statistics import CrossedPieces, CrossedStatistics, moments
from dgmm.likelihood.profiling import LESS, Profile, maximise, near_zero, profile_at, settled
from dgmm.likelihood.sufficient import Deviance, profiled_deviance
from dgmm.likelihood.working import least_of_loadings
from dgmm.numerics.ascent import Ascent, Evaluation, ascend

__all__ = ["search"]

TOLERANCE = 1e-6
"""Newton decrement, in standard errors, at which a search ends."""

ENOUGH = 1e-3
"""Decrement at which a search that could not go on has converged."""

RESTARTS = (0.3, 3.0)
"""Diagonals of Lambda to start from again when the first maximum has a variance of zero."""

EXACT = 1e-14
"""Share of the squares of the outcome in its residuals that is rounding."""

FITS_ALL = "the terms of the model fit every outcome exactly"

ONCE_MORE = 0.5
"""Diagonal entries near zero start again from here, the others where they are."""


@dataclass
class _Surface:
    """Minus half the profiled deviance of the free entries of Lambda relative to sigma."""

    stats: CrossedStatistics
    restricted: bool
    last: Deviance | None = field(default=None, init=False)

    def value_and_gradient(self, x: np.ndarray, scores: bool = False) -> Evaluation:
        self.last = profiled_deviance(self.stats, x, self.restricted)
        none = np.zeros((0, len(x))) if scores else None
        return Evaluation(-0.5 * self.last.value, -0.5 * self.last.gradient, none)

    def information(self, x: np.ndarray, scores: np.ndarray | None = None) -> np.ndarray:
        assert self.last is not None
        found, v, rss = self.last.found, self.last.v, self.last.rss
        assert isinstance(found, CrossedPieces)
        df = self.stats.N - self.restricted * self.stats.p
        average = found.average_information(v, rss, self.restricted)
        return 0.5 * (average + found.pull(v, df / rss))

    def least_information(self, x: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
        return least_of_loadings(self.stats.pattern, x, diagonal)

    def keep(self) -> None:
        """Nothing is kept."""


def search(stats: CrossedStatistics, reml: bool = False) -> Profile:
    """Maximum likelihood (or REML) over the free entries of Lambda, of either sign.

    Where the diagonal came near zero the search begins again from larger entries: the deviance is
    even in every column of Lambda, and flat there.
    """
    surface, on_diagonal = _Surface(stats, reml), stats.pattern.on_diagonal
    try:
        best = _ascended(surface, moments(stats))
    except FloatingPointError:  # next to no residual variance: steps by information lose digits
        return _without_information(stats, reml)
    used = best.evaluations
    for value in (ONCE_MORE, *RESTARTS):
        low = near_zero(stats.pattern, best.x)
        if not low.any():
            break
        start = np.where(low, value, best.x)
        if value != ONCE_MORE:
            start = np.where(on_diagonal, value, 0.0)
        try:
            again = _ascended(surface, start)
        except FloatingPointError:
            continue
        used += again.evaluations
        if again.value > best.value + LESS * stats.N:
            best = again
    x, done = settled(stats, reml, best.x), best.decrement < ENOUGH
    if profiled_deviance(stats, x, reml).rss < EXACT * stats.C[-1, -1]:
        raise FloatingPointError(FITS_ALL)
    words = f"the search ended {best.decrement:.2g} standard errors from a maximum"
    return profile_at(stats, reml, x, used, "" if done else words, done)


def _without_information(stats: CrossedStatistics, reml: bool) -> Profile:
    """The maximum by values and gradients alone."""
    try:
        return maximise(stats, reml)
    except np.linalg.LinAlgError as error:  # positive definite but for a sigma of next to nothing
        raise FloatingPointError(FITS_ALL) from error


def _ascended(surface: _Surface, start: np.ndarray) -> Ascent:
    return ascend(surface, start, tolerance=TOLERANCE)
