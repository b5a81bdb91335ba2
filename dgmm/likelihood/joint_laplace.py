"""Several outcomes of any family with linear random effects: Laplace's approximation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from dgmm.likelihood.answers import Compared, Each, Observed
from dgmm.likelihood.base import Maximum, unreached
from dgmm.likelihood.by_engine import ByEngine
from dgmm.likelihood.compared import by_importance
from dgmm.likelihood.joint_engine import JointEngine
from dgmm.likelihood.joint_statistics import columns_of_outcomes
from dgmm.likelihood.numerical import no_density
from dgmm.likelihood.profiling import near_zero
from dgmm.likelihood.rules import Laplace, NodeRule
from dgmm.model import Model
from dgmm.numerics.ascent import Ascent, ascend, whitening
from dgmm.numerics.hessian import curvature_of, whitened_jacobian
from dgmm.numerics.newton import descend
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta

__all__ = ["JointLaplace"]

STEP = 0.02
"""Step of the central differences of the score, in standard errors."""


@dataclass(frozen=True, eq=False)
class JointLaplace(ByEngine):
    """One node at the mode of every subject."""

    word = "laplace"

    @classmethod
    def cannot(cls, model: Model, panel: Panel) -> str | None:
        if reason := cls.one_factor(panel) or no_density(model):
            return reason
        if len(model.outcomes) < 2:
            return "it is for several outcomes"
        if any(one.networks or one.parts for one in model.outcomes):
            return "its derivatives are for models without dnn(), zi= and dispersion="
        if model.residual is not None:
            return "its derivatives are for outcomes that are independent given the random effects"
        if not all(latent.by_columns and latent.wider() is latent for latent in model.latents):
            return "its derivatives are for random effects T Lambda b with free covariances"
        return None

    @cached_property
    def engine(self) -> JointEngine:
        """The numerics, which keep the modes between calls."""
        return JointEngine(self.model, self.panel.seen_rows(), columns_of_outcomes(self.model))

    # -- the function ------------------------------------------------------------------------------

    def value(self, theta: Theta) -> float:
        return float(self.engine.per_subject(self.engine.vector(theta)).sum())

    def each(self, theta: Theta) -> Each:
        value = self.engine.per_subject(self.engine.vector(theta))
        return Each(value, torch.full_like(value, torch.nan), 0.0)

    def information(self, theta: Theta, packing: Packing) -> Observed:
        """On the scale of theta, whose diagonal of Lambda is logged."""
        engine = self.engine
        x = engine.vector(theta)
        found = engine.value_and_gradient(x, scores=True)
        assert found.scores is not None
        engine.keep()
        known = engine.information(x, found.scores)
        back = whitening(known, engine.least_information(x, np.diag(known)))
        H = whitened_jacobian(lambda at: engine.value_and_gradient(at).gradient, x, back, STEP)
        slope, logged = engine.working_slope(x), engine.logged
        matrix = slope[:, None] * H.matrix * slope
        matrix[logged, logged] += found.gradient[logged] * x[logged]
        form = "observed information of the Laplace approximation, central differences of the score"
        return Observed(curvature_of(matrix), form).among(self.model.packing, packing)

    # -- the search --------------------------------------------------------------------------------

    def maximise(self, start: Callable[[], Theta], verbose: int = 0) -> Maximum:
        engine, tolerance = self.engine, self.integration.tolerance
        found = ascend(engine, engine.vector(start()), tolerance=tolerance / 10)
        inside = engine.entries
        entries = found.x[inside]
        low = near_zero(engine.pattern, entries)
        if low.any():  # l is even in every column of L: zero is stationary, best or not
            x = found.x.copy()
            x[inside] = np.where(low, 0.5, entries)
            again = ascend(engine, x, tolerance=tolerance / 10)
            found = again if again.value > found.value + 1e-6 else found
        if found.decrement >= tolerance:
            found = self._sharpened(found)
        done = found.decrement < tolerance
        told = unreached(found.decrement, tolerance)
        theta, used = engine.theta(found.x), found.evaluations
        return Maximum(self, theta, found.value, 0.0, found.decrement, used, done, told)

    def _sharpened(self, found: Ascent) -> Ascent:
        """Newton's method from where a search ended: L of a singular covariance is known up to a
        turn, a valley along which others creep.
        """

        def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
            at = self.engine.value_and_gradient(x)
            return -at.value, -at.gradient

        last = descend(objective, found.x, self.integration.tolerance / 10)
        value = self.engine.value_and_gradient(last.x).value
        used = found.evaluations + last.evaluations
        return Ascent(last.x, value, last.decrement, used, (*found.path, value))

    def score_rule(self) -> NodeRule:
        return Laplace()

    def compared(self, theta: Theta, value: float) -> Compared | None:
        return by_importance(self, theta, value)

    def describe(self) -> str:
        return Laplace().describe(self.model.k)
