"""Likelihoods whose numerics are an engine: a vector x of parameters, its value and derivatives."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from dgmm.likelihood.base import Likelihood, chosen_columns
from dgmm.likelihood.posterior import NormalPosterior, Posterior
from dgmm.numerics.ascent import Evaluation
from dgmm.parameters import Packing, Theta

__all__ = ["ByEngine"]


class Engine(Protocol):
    """The vector of a theta, and l with its derivatives there."""

    def vector(self, theta: Theta) -> np.ndarray: ...
    def working_slope(self, x: np.ndarray) -> np.ndarray: ...
    def value_and_gradient(self, x: np.ndarray, scores: bool = False) -> Evaluation: ...


@dataclass(frozen=True, eq=False)
class ByEngine(Likelihood):
    """Derivatives in theta are those in x times the working slope d x / d theta."""

    @property
    @abstractmethod
    def engine(self) -> Any:
        """The numerics, an :class:`Engine`, which keep the modes between calls."""

    def value_and_gradient(
        self, theta: Theta, free: Collection[str] | None = None
    ) -> tuple[float, Theta]:
        engine: Engine = self.engine
        x = engine.vector(theta)
        found = engine.value_and_gradient(x)
        return found.value, self._gradient(found.gradient * engine.working_slope(x), free)

    def scores(self, theta: Theta, packing: Packing | None = None) -> Tensor:
        engine: Engine = self.engine
        x = engine.vector(theta)
        found = engine.value_and_gradient(x, scores=True).scores
        assert found is not None
        return chosen_columns(found * engine.working_slope(x), self.model.packing, packing)

    def posterior(self, theta: Theta) -> Posterior:
        """Around the modes of the engine; from a search of its own where the engine finds none."""
        engine: Any = self.engine
        try:
            mode, shift = engine.modes_and_shifts(engine.vector(theta))
        except FloatingPointError:
            return NormalPosterior(self.model, theta, self.observed)
        engine.keep()
        return NormalPosterior(self.model, theta, self.observed, mode, shift)

    def posteriors_near(self, theta: Theta) -> Callable[[Theta], Posterior]:
        return self.posterior  # the engine keeps the modes

    def __getstate__(self) -> dict[str, Any]:
        return {name: v for name, v in self.__dict__.items() if name != "engine"}
