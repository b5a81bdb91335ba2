"""b of the levels of several grouping factors given y: normal, exactly or by Laplace."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from dgmm.likelihood.crossed_engine import CrossedEngine, Mode, loadings, variances
from dgmm.likelihood.posterior import Effects, Posterior, Predictive, over_normal
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta

__all__ = ["LevelPosterior"]


@dataclass(frozen=True)
class LevelPosterior(Posterior):
    """Mode and covariance of the effects of all levels; of new levels the prior.

    Outside Gaussian models predictions and draws are around E(u | y) to first order.
    """

    model: Model
    theta: Theta
    history: Panel  # observed rows

    @cached_property
    def _engine(self) -> CrossedEngine:
        return CrossedEngine(self.model, self.history)

    @cached_property
    def _mode(self) -> Mode:
        return self._engine.at(self.theta)

    def effects(self) -> Effects:
        engine, mode = self._engine, self._mode
        plan, inner = engine.layout.plan, mode.factor.cells
        mean: dict[int, Tensor] = {}
        spread: dict[int, Tensor] = {}
        start = column = 0
        for j, f in enumerate(engine.layout.factors):
            m, width = plan.sizes[j], plan.widths[j]
            levels, some = np.unique(plan.level[:, j], return_index=True)
            own = slice(column, column + width)
            covariance = np.tile(np.eye(width), (m, 1, 1))  # without outcomes the prior stands
            covariance[levels] = inner[own, own][..., some].transpose(2, 0, 1)
            mean[f] = torch.from_numpy(mode.u[start : start + m * width].reshape(m, width))
            spread[f] = torch.from_numpy(covariance)
            start, column = start + m * width, column + width
        order = range(len(mean))
        return Effects(tuple(mean[f] for f in order), tuple(spread[f] for f in order))

    def log_density(self) -> Tensor:
        """The outcomes have one density, of all levels together: the same number everywhere."""
        value = self._mode.value - 0.5 * self._mode.factor.log_det
        return torch.full((self.history.n,), value, dtype=torch.float64)

    def predictive(self, target: Panel, scale: str) -> Predictive:
        eta = self._linear_predictor(target)
        return eta if scale == "link" else over_normal(self.model, self.theta, target, eta)

    def draws(self, target: Panel, size: int, generator: torch.Generator) -> Tensor:
        """Rows are drawn independently of each other, each from its own distribution."""
        eta = self._linear_predictor(target)
        noise = torch.randn(size, target.n_rows, generator=generator, dtype=torch.float64)
        return eta.mean + eta.variance.sqrt() * noise

    def _linear_predictor(self, target: Panel) -> Predictive:
        engine = CrossedEngine(self.model, self.history, target)
        layout = engine.layout
        seen = len(layout.plan.level) == len(self._engine.layout.plan.level)
        mode = self._mode if seen else engine.at(self.theta)
        mean = mode.u if self.model.family.conjugate else engine.mean(self.theta, mode)
        T = np.concatenate([block.numpy() for block in target.rows.T], axis=1)
        a = (T @ loadings(self.model, self.theta).detach().numpy()).T[layout.columns]
        # a level that the fit does not know has its prior, independent of all others
        known = np.where(layout.known.T, a, 0.0)
        own = sum(
            part * np.take(mean[at], layout.target)
            for part, at in zip(known, layout.plan.positions, strict=True)
        )
        spread = variances(known, mode.factor.cells, layout.target) + ((a - known) ** 2).sum(0)
        theta = {name: value.detach() for name, value in self.theta.items()}
        eta = self.model.mu1(theta, target.rows) + torch.from_numpy(own)
        return Predictive(eta, torch.from_numpy(spread))
