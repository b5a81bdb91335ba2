"""Laplace's approximation of log p(y) with several grouping factors, nested or crossed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from dgmm.likelihood.base import Each, Likelihood, Maximum, Observed
from dgmm.likelihood.crossed_engine import CrossedEngine
from dgmm.likelihood.crossed_gaussian import NOT_SEPARATE, RESTARTS, ZERO, not_crossed
from dgmm.likelihood.level_posterior import LevelPosterior
from dgmm.likelihood.posterior import Posterior
from dgmm.model import Model
from dgmm.numerics.hessian import central_jacobian, pilot_steps
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta

__all__ = ["CrossedLaplace"]


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
        engine, x = self._engine, self._vector(theta)
        step = pilot_steps(engine.value, x)
        curvature = central_jacobian(lambda at: engine.value_and_gradient(at)[1], x, step)
        form = (
            "observed information, central differences of the gradient of the Laplace approximation"
        )
        return Observed(curvature, form).among(self.model.packing, packing)

    def posterior(self, theta: Theta) -> Posterior:
        return LevelPosterior(self.model, theta, self.observed)

    # -- the search ------------------------------------------------------------------------------

    def maximise(self, start: Callable[[], Theta], verbose: int = 0) -> Maximum:
        engine, x = self._engine, self._vector(start())
        place = np.arange(engine.p, engine.p + len(engine.pattern.row))
        place = place[engine.pattern.on_diagonal]
        found = _search(engine, _with_diagonal(x, place, np.exp(x[place])), place)
        evaluations = found.nfev
        if bool((found.x[place] < ZERO).any()):
            for value in RESTARTS:
                other = _search(engine, _with_diagonal(found.x, place, value), place)
                evaluations += other.nfev
                found = other if other.fun < found.fun else found
        decrement = _decrement(found, engine, place)
        theta = self._theta(found.x, place)
        reached = decrement < self.integration.tolerance
        message = f"the Newton decrement is {decrement:.3g} standard errors: {found.message}"
        messages = () if reached else (message,)
        value = self.value(theta)
        return Maximum(self, theta, value, 0.0, decrement, int(evaluations), reached, messages)

    def _theta(self, x: np.ndarray, place: np.ndarray) -> Theta:
        # a zero on the diagonal (boundary) is held at a value that adds nothing to any sum
        logs = np.log(np.maximum(x[place], 1e-10))
        return self.model.packing.unpack(torch.from_numpy(_with_diagonal(x, place, logs)))

    def describe(self) -> str:
        return "Laplace approximation"


def _with_diagonal(x: np.ndarray, place: np.ndarray, value: np.ndarray | float) -> np.ndarray:
    out = x.copy()
    out[place] = value
    return out


def _search(engine: CrossedEngine, x: np.ndarray, place: np.ndarray) -> optimize.OptimizeResult:
    """L-BFGS-B on -l / N, the diagonal of Lambda kept >= 0."""
    size = len(engine.t)

    def scaled(at: np.ndarray) -> tuple[float, np.ndarray]:
        try:
            value, gradient = engine.value_and_gradient(at, natural=True)
        except np.linalg.LinAlgError:  # far out: P is not positive definite
            return 1e10, np.zeros_like(at)
        if not np.isfinite(value):
            return 1e10, np.zeros_like(at)
        return -value / size, -gradient / size

    bounds: list[tuple[float | None, None]] = [(None, None)] * len(x)
    for j in place:
        bounds[j] = (0.0, None)
    options = {"ftol": 1e-15, "gtol": 1e-9, "maxiter": 500, "maxcor": 30}
    return optimize.minimize(scaled, x, jac=True, method="L-BFGS-B", bounds=bounds, options=options)


def _decrement(found: optimize.OptimizeResult, engine: CrossedEngine, place: np.ndarray) -> float:
    """sqrt(g' H^-1 g) with the optimiser's own inverse Hessian, boundaries left out."""
    g = np.array(found.jac)
    g[place[found.x[place] <= 0]] = 0.0
    return float(np.sqrt(max(0.0, len(engine.t) * float(g @ (found.hess_inv @ g)))))
