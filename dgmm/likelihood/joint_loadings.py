"""Several Gaussian outcomes whose Lambda follows from fewer weights: factors, loadings, structures.

The sums of :mod:`dgmm.likelihood.joint_statistics` give -2 l and its gradient in Lambda (Q, k) and
v = (-u_k beta_k, u_k)_k, u_k = 1 / sigma_k, in closed form. Both are a small differentiable map of
theta, through which the gradient goes on; second derivatives are differences of it. The search is
over all but the coefficients, which are those of generalised least squares:

    f(x) = min_beta -2 l(beta, x),   d f / d x = d(-2 l) / d x at the best beta.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from dgmm.latent import columns_of
from dgmm.likelihood.answers import Observed
from dgmm.likelihood.base import Maximum, unreached
from dgmm.likelihood.joint_profile import Free, value_of
from dgmm.likelihood.joint_statistics import JointPieces, JointStatistics, no_sums, stacked
from dgmm.likelihood.limits import TIE, bounded
from dgmm.likelihood.numerical import LinearGaussian
from dgmm.likelihood.polish import damping
from dgmm.likelihood.statistics import statistics
from dgmm.model import Model, alone, alone_panel
from dgmm.numerics.hessian import central_jacobian
from dgmm.numerics.newton import DIFFERENCE, descend
from dgmm.numerics.walled import Walled
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta, part

__all__ = ["JointLoadings"]

EVALUATIONS, MEMORY = 400, 40
"""Of the search before Newton's method."""


class _At(NamedTuple):
    """What theta is to the sums, differentiable."""

    Lambda: Tensor  # (Q, k) relative to the sigmas
    v: Tensor  # (R,)
    log_u: Tensor  # (K,)


@dataclass(frozen=True, eq=False)
class JointLoadings(LinearGaussian):
    """The log-likelihood of linear mixed models of several outcomes, mu2 = T Lambda b."""

    @classmethod
    def cannot(cls, model: Model, panel: Panel) -> str | None:
        if reason := super().cannot(model, panel):
            return reason
        if len(model.outcomes) < 2 or model.residual is not None:
            return "it is for several outcomes whose residuals are not correlated"
        if reason := no_sums(model):
            return reason
        if not all(latent.columnwise for latent in model.latents):
            return "it is for random effects that are linear by columns"
        return None

    # -- the sums ----------------------------------------------------------------------------------

    @cached_property
    def _entering(self) -> list[list[int]]:
        """Of every outcome the latent structures that enter it."""
        entries, outcomes = self.model.entries, range(len(self.model.outcomes))
        return [
            [i for i, e in enumerate(entries) if any(x.outcome == o for x in e)] for o in outcomes
        ]

    @cached_property
    def _frames(self) -> list[list[Tensor]]:
        """Those of the columns of their rows, (q, q) each."""
        found = []
        for outcome, entering in zip(self.model.outcomes, self._entering, strict=True):
            own = [self.model.latents[i] for i in entering]
            at = [columns_of(one.places, outcome.name) for one in own]
            found.append([one.frame[a, a] for one, a in zip(own, at, strict=True)])
        return found

    @cached_property
    def statistics(self) -> JointStatistics:
        """One pass over the observed rows."""
        model, panel = self.model, self.panel.seen_rows()
        each, rows, first = [], [], 0
        for o, frames in enumerate(self._frames):
            each.append(statistics(alone(model, o), alone_panel(model, panel, o), frames))
            size = sum(len(frame) for frame in frames)
            rows.append(torch.arange(first, first + size))
            first += size
        return stacked(each, rows, panel, model)

    @cached_property
    def free(self) -> Free:
        """The coefficients of all outcomes, those in common once."""
        places = torch.cat([one.places(self.model.packing) for one in self.model.outcomes])
        return Free(self.statistics, places)

    def _taken(self, theta: Theta) -> _At:
        """Lambda row by row as the sums have the columns, outcome by outcome, and v."""
        model, stats = self.model, self.statistics
        log_u = stats.unit.log() - torch.stack([theta[f"{o.key}extra"][0] for o in model.outcomes])
        u = log_u.exp()
        sizes = [latent.dim for latent in model.latents]
        weights = [part(theta, f"latent{i}.") for i in range(1, len(sizes) + 1)]
        v: list[Tensor] = []
        blocks: list[Tensor] = []
        for k, (outcome, one) in enumerate(zip(model.outcomes, stats.each, strict=True)):
            beta = outcome.coordinates(theta) - torch.from_numpy(one.origin)
            v += [-u[k] * beta, u[k : k + 1]]
            for i, frame in zip(self._entering[k], self._frames[k], strict=True):
                Lambda = model.latents[i].loadings_in(weights[i], outcome.name)
                sides = sum(sizes[:i]), sum(sizes[i + 1 :])
                own = u[k] * torch.linalg.solve(frame, Lambda)
                blocks.append(torch.nn.functional.pad(own, sides))
        return _At(torch.cat(blocks), torch.cat(v), log_u)

    # -- the function ------------------------------------------------------------------------------

    def _reduced(self, theta: Theta) -> tuple[_At, JointPieces]:
        at = self._taken(theta)
        return at, self.statistics.reduce(at.Lambda.detach())

    def value(self, theta: Theta) -> float:
        with torch.no_grad():
            at, found = self._reduced(theta)
        return -0.5 * value_of(found, at.v, False)

    def value_and_gradient(
        self, theta: Theta, free: Collection[str] | None = None
    ) -> tuple[float, Theta]:
        leaves = {name: value.detach().clone().requires_grad_() for name, value in theta.items()}
        at, found = self._reduced(leaves)
        v = at.v.detach()
        through = (found.slope(v, False) * at.Lambda).sum() + (2 * found.S @ v) @ at.v
        through = through - 2 * (self.statistics.df(False) * at.log_u).sum()
        through.backward()
        wanted = leaves if free is None else {n: leaves[n] for n in leaves if n in free}
        gradient = {
            name: torch.zeros_like(leaf) if leaf.grad is None else -0.5 * leaf.grad
            for name, leaf in wanted.items()
        }
        return -0.5 * value_of(found, v, False), gradient

    def information(self, theta: Theta, packing: Packing) -> Observed:
        def gradient(vector: np.ndarray) -> np.ndarray:
            moved = {**theta, **packing.unpack(torch.from_numpy(vector))}
            return packing.pack(self.value_and_gradient(moved, packing.shapes)[1]).numpy()

        x = packing.pack(theta).detach().numpy()
        curvature = central_jacobian(gradient, x, np.full(len(x), DIFFERENCE))
        return Observed(curvature, "observed information, central differences of the exact score")

    # -- the search --------------------------------------------------------------------------------

    def maximise(self, start: Callable[[], Theta], verbose: int = 0) -> Maximum:
        first = start()
        reached = [self._climbed(theta) for theta in self.model.starts(first)]
        top = max(one.log_likelihood for one in reached)
        return bounded(self, next(one for one in reached if one.log_likelihood > top - TIE), first)

    def _profiled(self, theta: Theta) -> Theta:
        """The best coefficients, which come first in theta, beside the other parameters."""
        packing = self.model.packing
        with torch.no_grad():
            at, found = self._reduced(theta)
            phi = self.free.best(found.S, at.v[self.statistics.of_y])[0]
        vector = packing.pack(theta).detach().clone()
        vector[: len(phi)] = phi
        return packing.unpack(vector)

    def _climbed(self, theta: Theta) -> Maximum:
        """L-BFGS over all but the coefficients, then Newton's method."""
        model = self.model
        coefficients = {n for one in model.outcomes for n in (f"{one.key}beta", "shared")}
        own = model.packing.only([n for n in model.packing.shapes if n not in coefficients])
        used = 0

        def whole(x: np.ndarray) -> Theta:
            return self._profiled({**theta, **own.unpack(torch.from_numpy(x.copy()))})

        def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
            nonlocal used
            used += 1
            value, gradient = self.value_and_gradient(whole(x), own.shapes)
            return -value, -own.pack(gradient).numpy()

        found = optimize.minimize(
            Walled(objective),
            own.pack(theta).detach().numpy(),
            jac=True,
            method="L-BFGS-B",
            options={"maxfun": EVALUATIONS, "ftol": 1e-12, "gtol": 1e-3, "maxcor": MEMORY},
        )
        tolerance = self.integration.tolerance / 100
        last = descend(objective, found.x, tolerance, damping(own).numpy())
        theta, left = whole(last.x), last.decrement
        value, done = self.value(theta), left < self.integration.tolerance
        told = unreached(left, self.integration.tolerance)
        return Maximum(self, theta, value, 0.0, left, used, done, told)
