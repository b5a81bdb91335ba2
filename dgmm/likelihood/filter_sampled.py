"""Paths beside linear random effects, outcomes of any family: draws from the smoother, weighted.

The maximum is that of the likelihood itself, with the same draws at every theta and a Monte Carlo
error; the search begins at the maximum of Laplace's approximation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from dgmm.likelihood.answers import Compared, Each
from dgmm.likelihood.base import Maximum, unreached
from dgmm.likelihood.filter_laplace import FilterLaplace, not_by_states
from dgmm.likelihood.numerical import Sampled
from dgmm.likelihood.posterior import Posterior
from dgmm.likelihood.state_importance import Surplus, surplus
from dgmm.likelihood.state_laplace import StateLaplace
from dgmm.model import Model
from dgmm.numerics.ascent import Evaluation, ascend
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta

__all__ = ["FilterSampled", "StateSampled"]

DIFFERENCE = 2e-3
"""Step of central differences of l_i, in units of its parameter: draws follow theta smoothly."""


class StateSampled(StateLaplace):
    """l of a packed theta by the same antithetic ``pairs`` of draws everywhere."""

    def __init__(self, model: Model, panel: Panel, pairs: int, seed: int) -> None:
        super().__init__(model, panel)
        self.pairs, self.seed = pairs, seed

    def sampled(self, x: np.ndarray, number: int = 0) -> Surplus:
        """l of every series and its error, by draws of a number."""
        mode = self.proposal(x)
        rng = np.random.default_rng([self.seed, 71, number])
        return surplus(self.rows, mode, self.theta(x), self.pairs, rng)

    def each(self, x: np.ndarray) -> np.ndarray:
        return self.sampled(x).value

    def value_and_gradient(self, x: np.ndarray, scores: bool = False) -> Evaluation:
        """By central differences of every l_i."""
        self.evaluations += 1
        step = DIFFERENCE * np.maximum(1.0, np.abs(x))
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            value = float(self.each(x).sum())
            columns = [
                (self.each(x + u) - self.each(x - u)) / (2 * h)
                for u, h in zip(np.diag(step), step, strict=True)
            ]
        table = np.stack(columns, axis=1)
        return Evaluation(value, table.sum(0), table if scores else None)


@dataclass(frozen=True, eq=False)
class FilterSampled(FilterLaplace):
    """Draws of the simulation smoother, weighted."""

    word = "importance"
    sampled = True
    form = "observed information, central differences of the score of the same draws"

    @classmethod
    def cannot(cls, model: Model, panel: Panel) -> str | None:
        return cls.one_factor(panel) or not_by_states(model)

    @classmethod
    def automatic(cls, model: Model) -> bool:
        return False

    @cached_property
    def engine(self) -> StateSampled:
        """The numerics of the search."""
        pairs = max(2, self.integration.polish_draws // 2)
        return StateSampled(self.model, self.kept, pairs, self.integration.seed)

    @cached_property
    def _long(self) -> StateSampled:
        pairs = max(2, self.integration.draws // 2)
        return StateSampled(self.model, self.kept, pairs, self.integration.seed)

    @cached_property
    def _finer(self) -> FilterSampled:
        """With the draws of standard errors in the place of those of the search."""
        return self.by(polish_draws=self.integration.hessian_draws)

    def scores(self, theta: Theta, packing: Packing | None = None) -> Tensor:
        if self._finer is self:
            return super().scores(theta, packing)
        return self._finer.scores(theta, packing)

    def posterior(self, theta: Theta) -> Posterior:
        """Nodes around the modes, weighted: the effort is cubic in the rows of a subject."""
        return Sampled(self.model, self.panel, self.integration).posterior(theta)

    def value(self, theta: Theta) -> float:
        return float(self.each(theta).value.sum())

    def value_and_gradient(
        self, theta: Theta, free: Collection[str] | None = None
    ) -> tuple[float, Theta]:
        found = self.engine.value_and_gradient(self._vector(theta))
        return found.value, self._gradient(found.gradient, free)

    def each(self, theta: Theta) -> Each:
        """By independent sets of draws, whose means spread by the error."""
        x, sets = self._vector(theta), self.integration.replicates
        table = np.stack([self._long.sampled(x, number).value for number in range(sets)])
        log_mean = np.logaddexp.reduce(table, axis=0) - math.log(sets)
        error = np.exp(table - log_mean).std(0, ddof=1) / math.sqrt(sets)
        total = float(table.sum(1).std(ddof=1) / math.sqrt(sets))
        return Each(self._by_subject(log_mean), self._by_subject(error), total)

    def compared(self, theta: Theta, value: float) -> Compared | None:
        return None

    def maximise(self, start: Callable[[], Theta], verbose: int = 0) -> Maximum:
        near = FilterLaplace(self.model, self.panel, self.integration).maximise(start, verbose)
        packing, tolerance = self.model.packing, self.integration.tolerance
        x = packing.pack(near.theta).detach().numpy()
        found = ascend(self.engine, x, tolerance=min(3e-3, tolerance))
        theta = packing.unpack(torch.from_numpy(found.x))
        value = self.each(theta)
        return Maximum(
            self,
            theta,
            float(value.value.sum()),
            value.total_error,
            found.decrement,
            near.evaluations + self.engine.evaluations,
            found.decrement < tolerance,
            unreached(found.decrement, tolerance),
        )

    def by_id(self) -> FilterSampled:
        return replace(self)

    def describe(self) -> str:
        draws = self.integration.draws
        return f"importance sampling, {draws} antithetic draws of the smoother per subject"

    def __getstate__(self) -> dict[str, object]:
        return {n: v for n, v in self.__dict__.items() if n not in ("engine", "_finer", "_long")}
