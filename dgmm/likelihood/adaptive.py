"""Laplace's approximation and adaptive quadrature of classical models, with closed derivatives."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from dgmm.likelihood.adaptive_engine import AdaptiveEngine
from dgmm.likelihood.answers import Compared, Each, Observed
from dgmm.likelihood.base import Integration, Likelihood, Maximum
from dgmm.likelihood.by_engine import ByEngine
from dgmm.likelihood.compared import by_importance, by_quadrature
from dgmm.likelihood.growth import (
    MOST_AUTOMATIC,
    first_quadrature,
    grow,
    likelihood_at,
    not_by_columns,
)
from dgmm.likelihood.laplace_curvature import curvature, is_curved
from dgmm.likelihood.louis import louis_information
from dgmm.likelihood.nodes import freeze
from dgmm.likelihood.posterior import NodePosterior, Posterior
from dgmm.likelihood.rules import Laplace, NodeRule, Quadrature
from dgmm.model import Model
from dgmm.numerics.ascent import whitening
from dgmm.numerics.hessian import curvature_of, whitened_jacobian
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta

__all__ = ["Adaptive", "AdaptiveLaplace", "AdaptiveQuadrature"]

LAPLACE_STEP = 0.02
"""Step of central differences in standard errors: modes are iterated, so not exact."""


@dataclass(frozen=True, eq=False)
class Adaptive(ByEngine):
    """Nodes around the modes of linear random effects, values and derivatives in closed form."""

    rule: NodeRule = field(default_factory=Laplace)

    @classmethod
    def cannot(cls, model: Model, panel: Panel) -> str | None:
        return cls.one_factor(panel) or not_by_columns(model)

    @cached_property
    def engine(self) -> AdaptiveEngine:
        """The numerics, which keep the modes between calls."""
        return likelihood_at(self.model, self.observed, self.rule)

    # -- the function ----------------------------------------------------------------------------

    def value(self, theta: Theta) -> float:
        return self.engine.value(self.engine.vector(theta))

    def each(self, theta: Theta) -> Each:
        value = self._per_subject(theta)
        longer = self.rule.longer(self.model.k)
        if longer is None:
            return Each(value, torch.full_like(value, torch.nan), 0.0)
        better = replace(self, rule=longer)._per_subject(theta)
        return Each(value, (better - value).abs(), abs(float((better - value).sum())))

    def _per_subject(self, theta: Theta) -> Tensor:
        return torch.from_numpy(self.engine.per_subject(self.engine.vector(theta)))

    def information(self, theta: Theta, packing: Packing) -> Observed:
        """On the scale of theta, whose diagonal of Lambda is logged."""
        engine = self.engine
        x = engine.vector(theta)
        H, gradient, form = self._hessian(x)
        slope = engine.working_slope(x)
        H = slope[:, None] * H * slope
        first = len(self.model.names)
        logged = first + np.flatnonzero(engine.pattern.on_diagonal)
        H[logged, logged] += gradient[logged] * x[logged]
        return Observed(curvature_of(H), form).among(self.model.packing, packing)

    @abstractmethod
    def _hessian(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
        """The Hessian and the gradient in the vector of the engine, and how they are made."""

    # -- the search ------------------------------------------------------------------------------

    def maximise(self, start: Callable[[], Theta], verbose: int = 0) -> Maximum:
        first, model = self._first_rule(), self.model
        grown = grow(model, self.observed, start(), first, self.integration, verbose)
        own = replace(self, rule=grown.rule)
        own.__dict__["engine"] = grown.engine.at_rest()  # with the modes where they are
        return Maximum(
            own,
            grown.engine.theta(grown.found.x),
            grown.found.value,
            grown.change,
            grown.found.decrement,
            grown.evaluations,
            grown.found.decrement < self.integration.tolerance,
            grown.messages,
        )

    def _first_rule(self) -> NodeRule:
        """The rule that a search begins with."""
        return self.rule

    def score_rule(self) -> NodeRule:
        return self.rule

    def describe(self) -> str:
        return self.rule.describe(self.model.k)


@dataclass(frozen=True, eq=False)
class AdaptiveLaplace(Adaptive):
    """One node at the mode."""

    word = "laplace"

    def _hessian(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
        engine, form = self.engine, "observed information of the Laplace approximation"
        if is_curved(engine):
            own = curvature(engine, x)
            return own.hessian.copy(), own.gradient, f"{form}, closed form"
        found = engine.value_and_gradient(x, scores=True)
        assert found.scores is not None
        engine.keep()
        known = engine.information(x, found.scores)
        back = whitening(known, engine.least_information(x, np.diag(known)))
        back /= np.maximum(np.abs(back).max(0), 1.0)  # one without information is no unit
        H = whitened_jacobian(
            lambda at: engine.value_and_gradient(at).gradient, x, back, LAPLACE_STEP
        ).matrix
        return H, found.gradient, f"{form}, central differences of the score"

    def compared(self, theta: Theta, value: float) -> Compared | None:
        if self.model.k > MOST_AUTOMATIC:
            return by_importance(self, theta, value)
        return by_quadrature(self.engine, self.engine.vector(theta), value)


@dataclass(frozen=True, eq=False)
class AdaptiveQuadrature(Adaptive):
    """Gauss-Hermite nodes around the mode, at most three random effects."""

    rule: NodeRule = field(default_factory=lambda: Quadrature.default(1))

    word = "quadrature"
    grows = True

    @classmethod
    def cannot(cls, model: Model, panel: Panel) -> str | None:
        return super().cannot(model, panel) or Quadrature.cannot(model.k)

    @classmethod
    def of(
        cls, model: Model, panel: Panel, integration: Integration, restricted: bool = False
    ) -> Likelihood:
        plain = super().of(model, panel, integration, restricted)
        rule = first_quadrature(model.k, integration)
        return cls(plain.model, plain.panel, integration, rule)

    @classmethod
    def automatic(cls, model: Model) -> bool:
        return model.k <= MOST_AUTOMATIC

    def _first_rule(self) -> NodeRule:
        return first_quadrature(self.model.k, self.integration)

    def _hessian(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
        gradient = self.engine.gradient_at(x)
        H = -louis_information(self.engine, x)
        return H, gradient, "observed information at the quadrature nodes (Louis's identity)"

    def posterior(self, theta: Theta) -> Posterior:
        rng = np.random.default_rng(self.integration.seed)
        frozen = freeze(self.model, theta, self.observed, self.rule, rng)
        return NodePosterior(frozen, theta)

    def posteriors_near(self, theta: Theta) -> Callable[[Theta], Posterior]:
        return Likelihood.posteriors_near(self, theta)  # nodes follow those at theta
