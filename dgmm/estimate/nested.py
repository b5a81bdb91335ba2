"""The classical model beneath one with networks, fitted to all subjects and without every fold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dgmm.design import Design
from dgmm.estimate.folds import Folds
from dgmm.estimate.pilot import pilot, start_theta
from dgmm.estimate.records import Estimate, Request
from dgmm.likelihood import Likelihood, Point, choose
from dgmm.model import build_model
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.runtime.parallel import each

__all__ = ["Apart", "Nested", "fit_from", "score"]

REFIT = 0.05
"""Newton decrement, in standard errors, at which a fit without a fold ends where draws are used."""

DRAWS, SCRAMBLES = 128, 2
"""By which such a fit is made, and subjects are scored."""


@dataclass(frozen=True)
class Apart:
    """The nested model without every fold in turn."""

    folds: Folds
    points: tuple[Point, ...]  # of the subjects outside each fold
    scores: Tensor  # of every subject with an outcome, by the fit without its fold


@dataclass(frozen=True)
class Nested:
    """The nested classical model, ready to be fitted to all subjects or to some."""

    likelihood: Likelihood
    start: Callable[[], Theta]  # where the search for its maximum begins

    @classmethod
    def of(cls, design: Design, request: Request, word: str) -> Nested:
        """From its design, under the likelihood of a word."""
        unit, eta = pilot(design, request.family)
        model = build_model(design, request.family, unit, request.control.ridge)
        panel = Panel.from_design(design)

        def start() -> Theta:
            return start_theta(model, panel, eta, torch.Generator().manual_seed(request.seed))

        return cls(choose(model, panel, word, request.integration), start)

    @property
    def panel(self) -> Panel:
        """All planned rows."""
        return self.likelihood.panel

    def fit(self) -> Estimate:
        """Fit it to all subjects."""
        return Estimate.of(self.likelihood.maximise(self.start), "ml")

    def apart(self, folds: Folds, theta: Theta, workers: int = 1) -> Apart:
        """Fit it without every fold, in several processes; theta: of the fit to all subjects."""

        def one(fold: tuple[Likelihood, Panel]) -> tuple[Point, Tensor]:
            kept, left = fold
            point = fit_from(kept, theta)
            return point, score(point.likelihood.on(left), point.theta)

        panel, whole = self.panel, self.likelihood
        parts = zip(folds.kept, folds.left, strict=True)
        todo = [(whole.on(panel.select(kept)), panel.select(left)) for kept, left in parts]
        points, scores = zip(*each(one, todo, workers), strict=True)
        return Apart(folds, points, folds.joined(scores))


def fit_from(likelihood: Likelihood, theta: Theta) -> Point:
    """The maximum, or a point near enough, from ``theta`` nearby."""
    if likelihood.sampled:
        likelihood = likelihood.by(draws=DRAWS)
        return Point(likelihood, likelihood.polished(theta, tolerance=REFIT).theta)
    return likelihood.maximise(lambda: theta)


def score(likelihood: Likelihood, theta: Theta) -> Tensor:
    """log p(y_i; theta) of subjects left out, (n,)."""
    return likelihood.by(draws=DRAWS, replicates=SCRAMBLES).each(theta).value
