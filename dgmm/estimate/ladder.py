"""The penalty of neural random effects: one after the other, scored on subjects left out.

The fit goes up a ladder of penalties; on every step the subjects of a fold are taken out of its
maximum, which is brought to that of the others (:func:`dgmm.penalised.marginal.without`), and
scored there. The largest penalty within one standard error of the best is taken (that of the paired
difference): a rough network must be worth it. The nested model is the last step, a penalty without
bound: where it is within two standard errors, the largest penalty of all is taken. Breiman,
Friedman, Olshen and Stone (1984), Classification and Regression Trees, section 3.4.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dgmm.estimate.folds import Folds
from dgmm.estimate.learners import Learned, follow, kindle, tied_start
from dgmm.estimate.nested import Apart, score
from dgmm.estimate.records import Request, mean_and_error
from dgmm.likelihood import Likelihood, NodeRule, Point
from dgmm.likelihood.nodes import places
from dgmm.model import Model
from dgmm.parameters import Theta
from dgmm.penalised.marginal import Climb, Top, without
from dgmm.penalised.silence import classical, silent

__all__ = ["Ladder", "climbed", "first_step", "left_out", "node_rule", "open_ridges", "scored"]

RISE, GRID = 8.0, 3.0
"""Ratio of the first penalty compared to that under which learning begins; of neighbours."""

TAKEN_OUT = Climb(evaluations=30, tolerance=0.05)
"""From the maximum by all subjects to that without some: so near that these count no longer."""

LARGEST = 2000.0
"""Penalty beyond which the comparison does not go."""

CLEARLY = 2.0
"""Standard errors by which a network must be better than the nested model."""

Step = Mapping[str, float]


@dataclass(frozen=True)
class Ladder:
    """The penalties up to the one taken, and the scores of subjects left out under that."""

    steps: tuple[Step, ...]
    scores: Tensor  # of every subject with an outcome
    classical: bool  # silent networks leave the nested model, in every fold
    state: Learned  # at the top, by all subjects


def open_ridges(model: Model) -> list[str]:
    """The neural random effects whose penalty the user left open."""
    return [
        name for name in model.penalised() if name.startswith("latent") and name in model.open_ridge
    ]


def first_step(model: Model) -> Step:
    """The lowest penalties."""
    return {name: RISE * model.ridge_of(name) for name in open_ridges(model)}


def climbed(
    likelihood: Likelihood,
    below: Point,
    steps: tuple[Step, ...],
    request: Request,
    plain: bool = False,
) -> Learned:
    """Learn from the nested model up a ladder: under a large penalty alone a silent network is a
    maximum from which nothing leads away.

    plain: that maximum is what is wanted, and the last step alone is taken.
    """
    panel, rule = likelihood.panel, node_rule(likelihood)
    state = tied_start(likelihood.model, panel, below, request)
    if plain:
        steps = steps[-1:]
    else:
        state = kindle(state, panel, request, rule)
    for step in steps:
        state = follow(state.under(dict(step)), panel, request, rule)
    return state


def scored(likelihood: Likelihood, apart: Apart, below: Point, request: Request) -> Ladder:
    """Go up from the nested model until the scores of subjects left out are clearly worse."""
    plain = replace(request, method="ml", missing="observed", checkpoint=None)
    rule, taken, found = node_rule(likelihood), list[Step](), list[Ladder]()
    state = climbed(likelihood, below, (), plain)
    while True:
        taken.append(_next(likelihood.model, taken))
        state = follow(state.under(dict(taken[-1])), likelihood.panel, plain, rule)
        assert state.top is not None
        scores, others = left_out(likelihood, apart.folds, state.top)
        thetas = [state.theta, *others]
        nested = all(classical(state.model, theta) for theta in thetas)
        found.append(Ladder(tuple(taken), scores, nested, state))
        if _last(taken[-1]) or _silent(state.model, thetas) or _settled(found, apart.scores):
            return _taken(found, apart.scores)


def left_out(likelihood: Likelihood, folds: Folds, top: Top) -> tuple[Tensor, list[Theta]]:
    """log p(y_i) of every subject with an outcome without its fold, and theta without every fold.

    top: the maximum by all subjects.
    """
    own, near = likelihood.under(top.frozen.model), places(top.frozen)
    parts = [torch.from_numpy(left) for left in folds.left]
    thetas = [without(top, left, TAKEN_OUT) for left in parts]
    scores = [
        score(own.on(likelihood.panel.select(left)), theta, near.at(left))
        for left, theta in zip(parts, thetas, strict=True)
    ]
    return folds.joined(scores), thetas


def _taken(found: Sequence[Ladder], nested: Tensor) -> Ladder:
    """The largest penalty within one standard error of the best; the largest of all where the best
    is not clearly better than the nested model.
    """
    best = _best(found)
    if _near(nested, best, CLEARLY):
        return found[-1]
    return next(one for one in reversed(found) if _near(one.scores, best))


def _settled(found: Sequence[Ladder], nested: Tensor) -> bool:
    """The last penalty and the nested model are clearly worse than the best."""
    best = _best(found)
    return not (_near(found[-1].scores, best) or _near(nested, best, CLEARLY))


def _silent(model: Model, thetas: Sequence[Theta]) -> bool:
    """Whether no network whose penalty is to be chosen says anything, in any fold."""
    return all(set(open_ridges(model)) <= set(silent(model, theta)) for theta in thetas)


def _best(found: Sequence[Ladder]) -> Tensor:
    return max((one.scores for one in found), key=lambda scores: float(scores.mean()))


def _near(scores: Tensor, best: Tensor, errors: float = 1.0) -> bool:
    """Whether scores are within so many standard errors of the best."""
    difference, error = mean_and_error(best - scores)
    return difference <= errors * error


def _next(model: Model, taken: list[Step]) -> Step:
    if not taken:
        return first_step(model)
    return {name: GRID * kappa for name, kappa in taken[-1].items()}


def _last(step: Step) -> bool:
    return not step or GRID * max(step.values()) > LARGEST


def node_rule(likelihood: Likelihood) -> NodeRule | None:
    """The nodes of a likelihood whose nodes are not sampled."""
    return None if likelihood.sampled else likelihood.score_rule()
