"""The penalty of neural random effects: one after the other, scored on subjects left out.

Every fold of the subjects has a start of its own, from the nested model fitted without it, and goes
up a ladder of penalties; so its scores owe nothing to the subjects that it is scored on. The
largest penalty within one standard error of the best is taken (that of the paired difference): a
rough network must be worth it. Breiman, Friedman, Olshen and Stone (1984), Classification and
Regression Trees, section 3.4.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from dgmm.estimate.folds import Folds
from dgmm.estimate.learners import Learned, follow, kindle, tied_start
from dgmm.estimate.nested import Nested
from dgmm.estimate.records import Estimate, Request, mean_and_error
from dgmm.likelihood import Likelihood, NodeRule
from dgmm.model import Model

__all__ = ["Ladder", "climbed", "first_step", "node_rule", "open_ridges", "scored"]

RISE, GRID = 8.0, 3.0
"""Ratio of the first penalty compared to that under which learning begins; of neighbours."""

LARGEST = 2000.0
"""Penalty beyond which the comparison does not go."""

SILENT = 1e-4
"""Nats per subject that a larger penalty changes where the networks have nothing more to lose."""

DRAWS, SCRAMBLES = 128, 2
"""By which a subject left out is scored."""

Step = Mapping[str, float]


@dataclass(frozen=True)
class Ladder:
    """The penalties up to the one taken, and the scores of subjects left out under that."""

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
    panel, rule = likelihood.panel, node_rule(likelihood)
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
    """Go up until the scores of subjects left out are clearly worse, or all the ``steps`` given.

    classical: the nested fit to all subjects, where those without a fold begin.
    """
    quiet = replace(request, method="ml", missing="observed", verbose=0, checkpoint=None)
    every = [np.setdiff1d(np.arange(folds.n), left) for left in folds.left]
    likelihoods = [likelihood.on(likelihood.panel.select(kept)) for kept in every]
    nested = [below.fit_some(kept, classical.theta) for kept in every]
    pairs = zip(likelihoods, nested, strict=True)
    states = [climbed(one, plain, (), quiet) for one, plain in pairs]
    rule, taken = node_rule(likelihood), list[Step]()
    found: list[Ladder] = []
    while True:
        step = _next(likelihood.model, taken) if steps is None else steps[len(taken)]
        taken.append(step)
        states = [
            follow(state.under(dict(step)), one.panel, quiet, rule)
            for state, one in zip(states, likelihoods, strict=True)
        ]
        found.append(Ladder(tuple(taken), _scores(likelihood, folds, states)))
        if steps is not None:
            if len(taken) == len(steps):
                return found[-1]
        elif _last(step) or _settled(found):
            return _taken(found)


def _taken(found: Sequence[Ladder]) -> Ladder:
    """The largest penalty within one standard error of the best."""
    best = max(found, key=lambda one: float(one.scores.mean()))
    return next(one for one in reversed(found) if _near(one, best))


def _near(one: Ladder, best: Ladder) -> bool:
    difference, error = mean_and_error(best.scores - one.scores)
    return one is best or difference <= error


def _settled(found: Sequence[Ladder]) -> bool:
    """The last penalty is clearly worse than the best, or changes nothing."""
    best = max(found, key=lambda one: float(one.scores.mean()))
    change = (found[-1].scores - found[-2].scores).abs().mean() if len(found) > 1 else np.inf
    return not _near(found[-1], best) or float(change) < SILENT


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


def node_rule(likelihood: Likelihood) -> NodeRule | None:
    """The nodes of a likelihood whose nodes are not sampled."""
    return None if likelihood.sampled else likelihood.score_rule()
