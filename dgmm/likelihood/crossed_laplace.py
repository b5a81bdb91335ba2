"""Laplace's approximation of log p(y) with several grouping factors, nested or crossed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from dgmm.likelihood.answers import Compared, Each, Observed
from dgmm.likelihood.base import Likelihood, Maximum, unreached
from dgmm.likelihood.compared import by_levels
from dgmm.likelihood.crossed_engine import CrossedEngine
from dgmm.likelihood.crossed_gaussian import NOT_SEPARATE, not_crossed
from dgmm.likelihood.crossed_search import RESTARTS
from dgmm.likelihood.level_posterior import LevelPosterior
from dgmm.likelihood.posterior import Posterior
from dgmm.likelihood.working import LEAST_OF_EXTRA, least_of_loadings
from dgmm.model import Model
from dgmm.numerics.ascent import Evaluation, ascend, whitening
from dgmm.numerics.hessian import whitened_jacobian
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta

__all__ = ["CrossedLaplace"]

ZERO = 1e-6
"""A diagonal entry of Lambda below it is a variance of zero."""

FUTILE = 150
"""Evaluations after which no search begins again where the first did not come near a maximum."""

STEP = 0.02
"""Step of central differences in standard errors: modes are iterated, so not exact."""


@dataclass(frozen=True, eq=False)
class CrossedLaplace(Likelihood):
    """One mode of all levels together; exact for a Gaussian outcome, else an approximation."""

    word = "laplace"
    separate = False

    @classmethod
    def cannot(cls, model: Model, panel: Panel) -> str | None:
        return not_crossed(model, panel)

    @cached_property
    def _engine(self) -> CrossedEngine:
        return CrossedEngine(self.model, self.observed)

    # -- the function ----------------------------------------------------------------------------

    def value(self, theta: Theta) -> float:
        return self._engine.value(self._vector(theta))

    def value_and_gradient(
        self, theta: Theta, free: Collection[str] | None = None
    ) -> tuple[float, Theta]:
        value, slope = self._engine.value_and_gradient(self._vector(theta))
        return value, self._gradient(slope, free)

    def each(self, theta: Theta) -> Each:
        raise ValueError(NOT_SEPARATE)

    def scores(self, theta: Theta, packing: Packing | None = None) -> Tensor:
        raise ValueError(NOT_SEPARATE)

    def information(self, theta: Theta, packing: Packing) -> Observed:
        surface, place = _Natural(self._engine), self._place
        x = self._vector(theta)
        x[place] = np.exp(x[place])
        gradient = surface.value_and_gradient(x).gradient
        known = surface.information(x)
        self._engine.keep()
        back = whitening(known, surface.least_information(x, np.diag(known)))
        H = whitened_jacobian(lambda at: surface.value_and_gradient(at).gradient, x, back, STEP)
        slope = np.ones_like(x)
        slope[place] = x[place]
        logged = slope[:, None] * H.matrix * slope
        logged[place, place] += gradient[place] * x[place]
        form = (
            "observed information, central differences of the gradient of the Laplace approximation"
        )
        curvature = H._replace(matrix=logged)
        return Observed(curvature, form).among(self.model.packing, packing)

    @property
    def _place(self) -> np.ndarray:
        """Where the vector has the diagonal of Lambda."""
        engine = self._engine
        entries = np.arange(engine.p, engine.p + len(engine.pattern.row))
        place: np.ndarray = entries[engine.pattern.on_diagonal]
        return place

    def compared(self, theta: Theta, value: float) -> Compared | None:
        return by_levels(self._engine, theta, self.integration.seed)

    def posterior(self, theta: Theta) -> Posterior:
        return LevelPosterior(self.model, theta, self.observed)

    # -- the search ------------------------------------------------------------------------------

    def maximise(self, start: Callable[[], Theta], verbose: int = 0) -> Maximum:
        x, place, target = self._vector(start()), self._place, self.integration.tolerance / 100
        x[place] = np.exp(x[place])
        surface = _Natural(self._engine)
        found = ascend(surface, x, tolerance=target)
        evaluations = found.evaluations
        if bool((np.abs(found.x[place]) < ZERO).any()):
            for value in RESTARTS:
                if evaluations > FUTILE and found.decrement > self.integration.tolerance:
                    break
                again = found.x.copy()
                again[place] = value
                other = ascend(surface, again, tolerance=target)
                evaluations += other.evaluations
                found = other if other.value > found.value + 1e-9 else found
        theta, tolerance = self._theta(found.x), self.integration.tolerance
        return Maximum(
            self,
            theta,
            self.value(theta),
            0.0,
            found.decrement,
            evaluations,
            found.decrement < tolerance,
            unreached(found.decrement, tolerance),
        )

    def _theta(self, x: np.ndarray) -> Theta:
        """Columns of Lambda with a positive diagonal."""
        engine, pattern = self._engine, self._engine.pattern
        entries = pattern.to_theta(x[engine.p : engine.p + len(pattern.row)])
        extra = torch.from_numpy(x[engine.p + len(pattern.row) :].copy())
        return {"beta": torch.from_numpy(x[: engine.p].copy()), **entries, "extra": extra}

    def describe(self) -> str:
        return "Laplace approximation"


@dataclass
class _Natural:
    """The approximation as a function of vectors that hold the diagonal of Lambda itself.

    l is even in every column of Lambda, so that a variance of zero is an inner point.
    """

    engine: CrossedEngine

    def value_and_gradient(self, x: np.ndarray, scores: bool = False) -> Evaluation:
        value, gradient = self.engine.value_and_gradient(x, natural=True)
        return Evaluation(value, gradient, np.zeros((0, len(x))) if scores else None)

    def information(self, x: np.ndarray, scores: np.ndarray | None = None) -> np.ndarray:
        return self.engine.information(x)

    def least_information(self, x: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
        engine, pattern = self.engine, self.engine.pattern
        inside = slice(engine.p, engine.p + len(pattern.row))
        least = np.full_like(x, LEAST_OF_EXTRA)
        least[: engine.p] = 0.0
        least[inside] = least_of_loadings(pattern, x[inside], diagonal[inside])
        return least

    def keep(self) -> None:
        self.engine.keep()
