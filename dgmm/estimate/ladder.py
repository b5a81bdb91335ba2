"""The penalty of neural random effects: one after the other, scored on subjects left out.

Every fold of the subjects has a start of its own, from the nested model fitted without it, and goes
up a ladder of penalties; so its scores owe nothing to the subjects that it is scored on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from dgmm.estimate.folds import Folds
from dgmm.estimate.learners import Learned, follow, kindle, tied_start
from dgmm.estimate.nested import Nested
from dgmm.estimate.records import Estimate, Request
from dgmm.likelihood import Likelihood, NodeRule
from dgmm.model import Model

__all__ = ["Ladder", "climbed", "first_step", "open_ridges", "scored"]

RISE, GRID = 8.0, 3.0
"""Ratio of the first penalty compared to that under which learning begins; of neighbours."""

LARGEST = 2000.0
"""Penalty beyond which the comparison does not go."""

WORTH = 1e-3
"""Nats per subject by which the next penalty must be better for another to be tried."""

DRAWS, SCRAMBLES = 128, 2
"""By which a subject left out is scored."""

Step = Mapping[str, float]


@dataclass(frozen=True)
class Ladder:
    """The penalties up to the best one, and the scores of subjects left out under that."""

    steps: tuple[Step, ...]
    scores: Tensor  # of every subject with an outcome


def open_ridges(model: Model) -> list[str]:
    """The neural random effects whose penalty the user left open."""
    return [
        name for name in model.penalised() if name.startswith("latent") and name in model.open_ridge
    ]


def first_step(model: Model) -> Step:
    """The lowest penalties."""
    return {name: RISE * model.ridge_of(name) for name in open_ridges(model)}


def climbed(
    likelihood: Likelihood, below: Estimate, steps: tuple[Step, ...], request: Request
) -> Learned:
    """Learn from the nested model up a ladder: under a large penalty alone a silent network is a
    maximum from which nothing leads away.
    """
    panel, rule = likelihood.panel, _rule(likelihood)
    state = kindle(tied_start(likelihood.model, panel, below, request), panel, request, rule)
    for step in steps:
        state = follow(state.under(dict(step)), panel, request, rule)
    return state


def scored(
    likelihood: Likelihood,
    below: Nested,
    classical: Estimate,
    folds: Folds,
    request: Request,
    steps: tuple[Step, ...] | None = None,
) -> Ladder:
    """Go up as long as the score of subjects left out rises, or all the ``steps`` that are given.

    classical: the nested fit to all subjects, where those without a fold begin.
    """
    quiet = replace(request, method="ml", missing="observed", verbose=0, checkpoint=None)
    every = [np.setdiff1d(np.arange(folds.n), left) for left in folds.left]
    likelihoods = [likelihood.on(likelihood.panel.select(kept)) for kept in every]
    nested = [below.fit_some(kept, classical.theta) for kept in every]
    pairs = zip(likelihoods, nested, strict=True)
    states = [climbed(one, plain, (), quiet) for one, plain in pairs]
    taken: list[Step] = []
    best: Ladder | None = None
    while True:
        step = _next(likelihood.model, taken) if steps is None else steps[len(taken)]
        taken.append(step)
        rule = _rule(likelihood)
        states = [
            follow(state.under(dict(step)), one.panel, quiet, rule)
            for state, one in zip(states, likelihoods, strict=True)
        ]
        here = Ladder(tuple(taken), _scores(likelihood, folds, states))
        rise = np.inf if best is None else float(here.scores.mean() - best.scores.mean())
        best = here if rise > 0 or steps is not None else best
        assert best is not None
        if len(taken) == len(steps) if steps is not None else rise < WORTH or _last(step):
            return best


def _next(model: Model, taken: list[Step]) -> Step:
    if not taken:
        return first_step(model)
    return {name: GRID * kappa for name, kappa in taken[-1].items()}


def _last(step: Step) -> bool:
    return not step or GRID * max(step.values()) > LARGEST


def _scores(likelihood: Likelihood, folds: Folds, states: list[Learned]) -> Tensor:
    each = iter(states)

    def without(_: np.ndarray, left: np.ndarray) -> Tensor:
        state = next(each)
        own = likelihood.under(state.model).on(likelihood.panel.select(left))
        return own.by(draws=DRAWS, replicates=SCRAMBLES).each(state.theta).value

    return folds.scores(without)


def _rule(likelihood: Likelihood) -> NodeRule | None:
    """The nodes of a likelihood whose nodes are not sampled."""
    return None if likelihood.sampled else likelihood.score_rule()
