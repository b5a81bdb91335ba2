"""Objectives of searches that have no value everywhere: far from the start, or at its sides."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

__all__ = ["WORSE", "Walled"]

WORSE = 1e3
"""How much worse than its start a log-likelihood counts where it has no value."""

Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]


class Walled:
    """An objective to be minimised, WORSE than at its start where it is not finite.

    A line search that meets a value without bound goes back by a step of length zero and ends as if
    it had converged; from a wall of moderate height it turns back a part of the way.

    objective: x (P,) to the value and its gradient (P,); it may raise where it has none.
    worse: height of the wall, in units of the value.
    start: the value at the start of the search, by default that of the first call.
    capped: whether finite values above the wall count as the wall.
    """

    def __init__(
        self,
        objective: Objective,
        worse: float = WORSE,
        *,
        start: float | None = None,
        capped: bool = False,
    ) -> None:
        self.objective, self.worse, self.start, self.capped = objective, worse, start, capped

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = self._inside(x)
        top = math.inf if self.start is None else self.start + self.worse
        if not math.isfinite(value) or (self.capped and value > top):
            return min(top, 1e300), np.zeros_like(x)
        if self.start is None:
            self.start = value
        return value, slope

    def _inside(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient; infinity where there is none of the two."""
        if not np.isfinite(x).all():
            return math.inf, x
        try:
            value, slope = self.objective(x)
        except (FloatingPointError, np.linalg.LinAlgError, torch.linalg.LinAlgError):
            return math.inf, x
        return (value, slope) if np.isfinite(slope).all() else (math.inf, x)
