"""Models with neural random effects without a fold of the subjects.

A fit without a fold f goes on from theta-hat of all subjects to its own maximum. Where many fits
are compared one Newton step is enough,

    theta-hat - (M - sum_f s_i s_i')^-1 sum_f s_i,

the infinitesimal jackknife of a fold.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dgmm.estimate.folds import Folds
from dgmm.estimate.records import Request
from dgmm.likelihood import Likelihood, NodeRule, freeze
from dgmm.likelihood.rules import AroundOne
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.penalised.marginal import Climb, Top, climb

__all__ = ["guessed_scores", "refitted_scores"]

REFIT = Climb(rounds=2, evaluations=12, tolerance=0.05)

DRAWS, SCRAMBLES = 128, 2
"""By which a subject left out is scored."""


def guessed_scores(folds: Folds, model: Model, top: Top, panel: Panel, request: Request) -> Tensor:
    """The score of every subject with an outcome, by one step from the fit to all of them."""
    packing, rule = model.packing, AroundOne(DRAWS * SCRAMBLES)
    x = packing.pack(top.theta)

    def without(_: np.ndarray, left: np.ndarray) -> Tensor:
        metric, total = top.metric.without(torch.from_numpy(left), panel.n)
        theta = packing.unpack(x - metric.solve(total))
        rng, seen = np.random.default_rng([request.seed, 17]), panel.select(left).observed_rows()
        return freeze(model, theta, seen, rule, rng).per_subject(theta)

    return folds.scores(without)


def refitted_scores(
    folds: Folds, likelihood: Likelihood, theta: Theta, request: Request, rule: NodeRule | None
) -> Tensor:
    """The score of every subject with an outcome, by fits without its fold.

    likelihood: of the model, penalties held; theta: its maximum over all subjects.
    """
    model, panel = likelihood.model, likelihood.panel

    def without(kept: np.ndarray, left: np.ndarray) -> Tensor:
        seen = panel.select(kept).observed_rows()
        found = climb(model, theta, seen, request.seed, REFIT, rule=rule)
        own = likelihood.on(panel.select(left)).by(draws=DRAWS, replicates=SCRAMBLES)
        return own.each(found.theta).value

    return folds.scores(without)
