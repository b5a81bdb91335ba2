"""Several outcomes of any family and few random effects: adaptive Gauss-Hermite quadrature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from dgmm.likelihood.base import Maximum
from dgmm.likelihood.growth import RULE_TOLERANCE, first_quadrature
from dgmm.likelihood.joint_laplace import JointLaplace
from dgmm.likelihood.numerical import NodeQuadrature
from dgmm.likelihood.polish import Polished
from dgmm.likelihood.rules import NodeRule
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta, part

__all__ = ["JointQuadrature"]


ONE_EFFECT = 1e-6
"""The change that is small enough with one random effect, where points cost little."""

ROUNDS = 5
"""Most times that the anchors of the nodes are moved: the search begins near."""

SILENT, NO_LOWER = 1e-6, 1e-6
"""Factor that leaves nothing of a random part; what its maximum may be lower to be taken."""


@dataclass(frozen=True, eq=False)
class JointQuadrature(NodeQuadrature):
    """Nodes around the modes of every subject, more of them until the value stands still.

    The search begins at the maximum of Laplace's approximation where that has closed derivatives.
    """

    grown: NodeRule | None = None

    @classmethod
    def cannot(cls, model: Model, panel: Panel) -> str | None:
        if len(model.outcomes) < 2:
            return "it is for several outcomes"
        return super().cannot(model, panel)

    @classmethod
    def automatic(cls, model: Model) -> bool:
        return all(latent.linear for latent in model.latents)

    @property
    def rule(self) -> NodeRule:
        return self.grown or first_quadrature(self.model.k, self.integration)

    def _nearer(self, theta: Theta) -> Theta:
        if JointLaplace.cannot(self.model, self.panel):
            return theta
        return JointLaplace(self.model, self.panel, self.integration).maximise(lambda: theta).theta

    def polished(self, theta: Theta, *, rounds: int = ROUNDS, **options: Any) -> Polished:
        return super().polished(theta, rounds=min(rounds, ROUNDS), **options)

    def _at_zero(self, found: Maximum) -> Maximum:
        """The maximum with random parts of no size, where the search went there: l is flat."""
        theta = dict(found.theta)
        for i, latent in enumerate(self.model.latents, 1):
            weights = latent.times(part(theta, f"latent{i}."), torch.tensor(SILENT).double())
            theta |= {f"latent{i}.{name}": value for name, value in weights.items()}
        free = [name for name in self.model.packing.shapes if not name.startswith("latent")]
        none = self.concluded(self.polished(theta, free=free, tolerance=self._tolerance()))
        higher = none.log_likelihood > found.log_likelihood - NO_LOWER
        return none if higher and none.converged else found

    def maximise(self, start: Callable[[], Theta], verbose: int = 0) -> Maximum:
        found, here = super().maximise(start, verbose), self
        if not found.converged:
            found = self._at_zero(found)
        enough = RULE_TOLERANCE if self.model.k > 1 else ONE_EFFECT
        grows = found.converged and self.integration.points is None
        while grows and found.mc_error > enough:
            longer = here.rule.longer(self.model.k)
            if longer is None:
                break
            here = replace(here, grown=longer)
            near = here.polished(found.theta, tolerance=self._tolerance(), verbose=verbose)
            found = here.concluded(near)
        return found
