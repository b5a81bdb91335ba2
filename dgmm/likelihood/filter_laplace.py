"""Paths beside linear random effects, outcomes of any family: Laplace's approximation, O(rows)."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from dgmm.likelihood.answers import Compared, Each, Observed
from dgmm.likelihood.base import Likelihood, Maximum, chosen_columns, unreached
from dgmm.likelihood.numerical import no_density
from dgmm.likelihood.packed import not_packed
from dgmm.likelihood.posterior import Posterior
from dgmm.likelihood.rules import Laplace, NodeRule
from dgmm.likelihood.state_importance import surplus
from dgmm.likelihood.state_laplace import StateLaplace
from dgmm.likelihood.states import StatePosterior, pseudo_outcomes
from dgmm.model import Model
from dgmm.numerics.ascent import Ascent, ascend, whitening
from dgmm.numerics.hessian import curvature_of, whitened_jacobian
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta

__all__ = ["FilterLaplace", "not_by_states"]

STEP = 0.01
"""Step of central differences of the gradient, in standard errors."""

PAIRS = 256
"""Antithetic pairs of draws of a comparison."""

TIE = 1e-6
"""Log-likelihood by which one maximum must be above another to be preferred."""


def not_by_states(model: Model) -> str | None:
    """Why pseudo-outcomes and the filter do not apply to a model; None when they do."""
    if reason := not_packed(model):
        return reason
    if len(model.outcomes) > 1:
        return "it is for one outcome"
    if any(model.targets):
        return "random effects in zi= cannot stand beside a path"
    return no_density(model)


@dataclass(frozen=True, eq=False)
class FilterLaplace(Likelihood):
    """Gaussian pseudo-outcomes at the mode, through the filter."""

    word = "laplace"
    form: ClassVar[str] = (
        "observed information of the Laplace approximation, central differences of the score"
    )

    @classmethod
    def cannot(cls, model: Model, panel: Panel) -> str | None:
        return cls.one_factor(panel) or not_by_states(model)

    @cached_property
    def engine(self) -> StateLaplace:
        """The numerics, which keep the modes between calls."""
        return StateLaplace(self.model, self.kept)

    # -- the function ----------------------------------------------------------------------------

    def value(self, theta: Theta) -> float:
        return float(self.engine.each(self._vector(theta)).sum())

    def value_and_gradient(
        self, theta: Theta, free: Collection[str] | None = None
    ) -> tuple[float, Theta]:
        found = self.engine.value_and_gradient(self._vector(theta))
        return found.value, self._gradient(found.gradient, free)

    def each(self, theta: Theta) -> Each:
        value = self._by_subject(self.engine.each(self._vector(theta)))
        return Each(value, torch.full_like(value, torch.nan), 0.0)

    def scores(self, theta: Theta, packing: Packing | None = None) -> Tensor:
        scores = self.engine.value_and_gradient(self._vector(theta), scores=True).scores
        assert scores is not None
        return chosen_columns(self._by_subject(scores).numpy(), self.model.packing, packing)

    def _by_subject(self, series: np.ndarray) -> Tensor:
        """Values of series, those of subjects without outcomes zero."""
        found = torch.zeros(self.kept.n, *series.shape[1:], dtype=torch.float64)
        found[self.engine.rows.packed.order[: len(series)]] = torch.from_numpy(series)
        return found

    def information(self, theta: Theta, packing: Packing) -> Observed:
        engine, x = self.engine, self._vector(theta)
        scores = engine.value_and_gradient(x, scores=True).scores
        assert scores is not None
        engine.keep()
        known = engine.information(x, scores)
        back = whitening(known, engine.least_information(x, np.diag(known)))
        H = whitened_jacobian(lambda at: engine.value_and_gradient(at).gradient, x, back, STEP)
        return Observed(curvature_of(H.matrix), self.form).among(self.model.packing, packing)

    def posterior(self, theta: Theta) -> Posterior:
        """Normal, around the mean to first order."""
        pseudo = pseudo_outcomes(self.model, theta, self.kept)
        return StatePosterior(self.model, theta, self.kept, pseudo)

    def compared(self, theta: Theta, value: float) -> Compared | None:
        engine, x = self.engine, self._vector(theta)
        mode = engine.proposal(x)
        rng = np.random.default_rng([self.integration.seed, 83])
        found = surplus(engine.rows, mode, theta, PAIRS, rng)
        error = math.sqrt(float((found.error**2).sum()))
        words = "importance sampling with the smoother as proposal"
        return Compared("importance", words, float(found.value.sum()) - value, error, math.nan)

    # -- the search ------------------------------------------------------------------------------

    def maximise(self, start: Callable[[], Theta], verbose: int = 0) -> Maximum:
        packing, tolerance = self.model.packing, self.integration.tolerance
        reached: list[Ascent] = []
        for theta in self.model.starts(start()):
            x = packing.pack(theta).detach().numpy()
            reached.append(ascend(self.engine, x, tolerance=tolerance / 100))
        top = max(one.value for one in reached)
        found = next(one for one in reached if one.value > top - TIE)
        return Maximum(
            self,
            packing.unpack(torch.from_numpy(found.x)),
            found.value,
            0.0,
            found.decrement,
            self.engine.evaluations,
            found.decrement < tolerance,
            unreached(found.decrement, tolerance),
        )

    def score_rule(self) -> NodeRule:
        return Laplace()

    def describe(self) -> str:
        return "Laplace approximation (Kalman filter)"

    def __getstate__(self) -> dict[str, object]:
        return {name: v for name, v in self.__dict__.items() if name != "engine"}
