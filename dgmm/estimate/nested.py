"""The classical model beneath one with networks, and both compared on held-out subjects."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dgmm.design import Design
from dgmm.estimate.classical import fit_linear
from dgmm.estimate.pilot import pilot
from dgmm.estimate.records import Estimate, HeldOut, Request
from dgmm.likelihood import Likelihood, choose
from dgmm.model import build_model
from dgmm.panel import Panel
from dgmm.parameters import Theta

__all__ = ["Nested", "compare_held_out", "draw_held_out"]

FEWEST = 20
"""Subjects below which none is held out."""


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

    def fit(self, subjects: np.ndarray | None = None, theta: Theta | None = None) -> Estimate:
        """Fit it to all subjects, or to those at some positions, from ``theta`` if it is given."""
        if subjects is None:
            return fit_linear(self.likelihood, self.eta, self.request)
        inside = torch.zeros(self.panel.n, dtype=torch.bool)
        inside[torch.from_numpy(subjects)] = True
        eta = self.eta[inside[self.likelihood.observed.subject]]
        some = self.likelihood.on(self.panel.select(subjects))
        return fit_linear(some, eta, self.request, theta=theta)


def draw_held_out(panel: Panel, request: Request) -> tuple[np.ndarray, np.ndarray] | None:
    """Positions of the subjects kept and held out; None when the fit is not to be compared.

    Subjects without an outcome have no score: they are kept.
    """
    share, seen = request.control.holdout, panel.subject[panel.observed].unique().numpy()
    if share <= 0 or len(seen) < FEWEST:
        return None
    order = seen[np.random.default_rng([request.seed, 13]).permutation(len(seen))]
    left = np.sort(order[: max(2, round(share * len(seen)))])
    return np.setdiff1d(np.arange(panel.n), left), left


def compare_held_out(
    deep: Estimate, plain: Estimate, left: np.ndarray, panels: tuple[Panel, Panel]
) -> HeldOut:
    """Log scores of two fits on the subjects ``left`` of their panels."""
    scores = [
        done.likelihood.on(panel.select(left)).each(done.theta).value
        for done, panel in zip((deep, plain), panels, strict=True)
    ]
    return HeldOut.of(scores[0] - scores[1])
