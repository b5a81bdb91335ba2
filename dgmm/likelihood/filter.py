"""Gaussian outcome, paths beside linear random effects: log p(y) by the Kalman filter, exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgmm.likelihood.answers import Each, Observed
from dgmm.likelihood.base import Integration, Likelihood, Maximum, chosen_columns
from dgmm.likelihood.filter_search import Found, search
from dgmm.likelihood.filtered import FilteredValue, relative
from dgmm.likelihood.gaussian import Gaussian, degenerate, digits_left, jointly_normal
from dgmm.likelihood.packed import Packed, moving_packing, not_packed, sigma_of
from dgmm.likelihood.posterior import Posterior
from dgmm.likelihood.states import StatePosterior
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta

__all__ = ["Filter"]

STILL = 1e-5
"""Slope of the profiled log-likelihood per outcome at which a search has converged."""

FORM = "observed information, central differences of the exact gradient"

GLS_FORM = "GLS form; variance parameters by the Hessian of the restricted likelihood"


@dataclass(frozen=True, eq=False)
class Filter(Gaussian):
    """The (restricted) log-likelihood of a linear mixed model with paths."""

    word = "filter"

    @classmethod
    def cannot(cls, model: Model, panel: Panel) -> str | None:
        reason = cls.one_factor(panel) or not_packed(model) or jointly_normal(model)
        return reason or degenerate(model)

    @classmethod
    def of(
        cls, model: Model, panel: Panel, integration: Integration, restricted: bool = False
    ) -> Likelihood:
        return cls(model.sized(panel), panel, integration, restricted)

    # -- the function ----------------------------------------------------------------------------

    @cached_property
    def packed(self) -> Packed:
        """The observed rows."""
        return Packed.of(self.model, self.kept)

    @cached_property
    def _at(self) -> FilteredValue:  # type: ignore[override]
        return FilteredValue(self.packed, self.restricted)

    def each(self, theta: Theta) -> Each:
        value = self._by_subject(FilteredValue(self.packed).each(self._vector(theta)))
        return Each(value, torch.zeros_like(value), 0.0)

    def scores(self, theta: Theta, packing: Packing | None = None) -> Tensor:
        table = self._by_subject(FilteredValue(self.packed).scores(self._vector(theta)))
        return chosen_columns(table.numpy(), self.model.packing, packing)

    def _by_subject(self, series: np.ndarray) -> Tensor:
        """Values of series, those of subjects without outcomes zero."""
        found = torch.zeros(self.kept.n, *series.shape[1:], dtype=torch.float64)
        found[self.packed.order[: len(series)]] = torch.from_numpy(series)
        return found

    def information(self, theta: Theta, packing: Packing) -> Observed:
        curvature = self._at.hessian(self._vector(theta))
        form = GLS_FORM if self.restricted else FORM
        return Observed(curvature, form).among(self.model.packing, packing)

    def posterior(self, theta: Theta) -> Posterior:
        return StatePosterior(self.model, theta, self.kept)

    # -- the search ------------------------------------------------------------------------------

    def maximise(self, start: Callable[[], Theta], verbose: int = 0) -> Maximum:
        theta = start()
        own, sigma = moving_packing(self.model), sigma_of(self.model, theta)
        starts = [relative(self.model, one, sigma) for one in self.model.starts(theta)]
        starts = [
            self.packed.with_gains({name: one[name] for name in own.shapes}) for one in starts
        ]
        found = search(self.packed, self.restricted, starts)
        told = () if found.slope < STILL else ("the search over the paths has not come to rest",)
        return Maximum(
            self,
            self.model.packing.unpack(torch.from_numpy(found.theta)),
            found.value,
            0.0,
            0.0,
            found.evaluations,
            found.slope < STILL,
            (*told, *self._lost(found)),
        )

    def _lost(self, found: Found) -> tuple[str, ...]:
        """The note about residuals that have run to zero, for a reason or by rounding."""
        noted = digits_left(found.innovations.statistics, found.profile)
        fixed = [one.label for one in self.model.latents if one.by_states and not one.flat]
        if noted and fixed and not self.model.nondegenerate:
            return (
                f"the residual standard deviation runs to zero, where the likelihood has no bound: "
                f"{fixed[0]} starts at a known value, which the outcomes there equal exactly. "
                "Take a stationary path, ar1() or ou(), or leave those rows out",
            )
        return noted

    def independence(self, theta: Theta) -> float:
        return Likelihood.independence(self, theta)

    def choice(self) -> dict[str, Any]:
        """Without its paths a model has the exact likelihood of a classical one."""
        return {**super().choice(), "word": "auto"}

    def describe(self) -> str:
        return "exact (Kalman filter)"
