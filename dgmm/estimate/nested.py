"""The classical model beneath one with networks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dgmm.design import Design
from dgmm.estimate.classical import fit_linear
from dgmm.estimate.folds import Folds
from dgmm.estimate.pilot import pilot
from dgmm.estimate.records import Estimate, Request
from dgmm.likelihood import Likelihood, choose
from dgmm.model import build_model
from dgmm.panel import Panel
from dgmm.parameters import Theta

__all__ = ["Nested"]


@dataclass(frozen=True)
class Nested:
    """The nested classical model, ready to be fitted to all subjects or to some."""

    likelihood: Likelihood
    eta: Tensor  # of the independence model, at the observed rows
    request: Request

    @classmethod
    def of(cls, design: Design, request: Request, word: str) -> Nested:
        """From its design, under the likelihood of a word."""
        unit, eta = pilot(design, request.family)
        model = build_model(design, request.family, unit, request.control.ridge)
        likelihood = choose(model, Panel.from_design(design), word, request.integration)
        return cls(likelihood, eta, replace(request, method="ml", verbose=0))

    @property
    def panel(self) -> Panel:
        """All planned rows."""
        return self.likelihood.panel

    def fit(self) -> Estimate:
        """Fit it to all subjects."""
        return fit_linear(self.likelihood, self.eta, self.request)

    def fit_some(self, subjects: np.ndarray, theta: Theta | None = None) -> Estimate:
        """Fit it to the subjects at some positions, from ``theta`` if one is near."""
        inside = torch.zeros(self.panel.n, dtype=torch.bool)
        inside[torch.from_numpy(subjects)] = True
        eta = self.eta[inside[self.likelihood.observed.subject]]
        likelihood = self.likelihood.on(self.panel.select(subjects))
        return fit_linear(likelihood, eta, self.request, theta)

    def scores(self, folds: Folds, done: Estimate) -> Tensor:
        """The score of every subject with an outcome, by fits without its fold.

        done: the fit to all subjects.
        """

        def without(kept: np.ndarray, left: np.ndarray) -> Tensor:
            fitted = self.fit_some(kept, done.theta)
            return fitted.likelihood.on(self.panel.select(left)).each(fitted.theta).value

        return folds.scores(without)
