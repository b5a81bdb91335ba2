"""The penalty of neural random effects: one after the other, scored on subjects left out.

Every fold of the subjects has a start of its own, from the nested model fitted without it, and goes
up a ladder of penalties; so its scores owe nothing to the subjects that it is scored on. The
largest penalty within one standard error of the best is taken (that of the paired difference): a
rough network must be worth it. The nested model is the last step, a penalty without bound: where it
is within two standard errors, the largest penalty of all is taken. Breiman, Friedman, Olshen and
Stone (1984), Classification and Regression Trees, section 3.4.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from dgmm.estimate.learners import Learned, follow, kindle, tied_start
from dgmm.estimate.nested import Apart, score
from dgmm.estimate.records import Request, mean_and_error
from dgmm.estimate.starts import workers_of
from dgmm.likelihood import Likelihood, NodeRule, Point
from dgmm.model import Model
from dgmm.penalised.silence import classical, silent
from dgmm.runtime.parallel import each

__all__ = ["Ladder", "climbed", "first_step", "node_rule", "open_ridges", "scored"]

RISE, GRID = 8.0, 3.0
"""Ratio of the first penalty compared to that under which learning begins; of neighbours."""

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


def scored(
    likelihood: Likelihood, apart: Apart, request: Request, steps: tuple[Step, ...] | None = None
) -> Ladder:
    """Go up until the scores of subjects left out are clearly worse, or all the ``steps`` given.

    Folds are worked through beside each other where there are processors.
    """
    quiet = replace(request, method="ml", missing="observed", verbose=0, checkpoint=None)
    folds, panel = apart.folds, likelihood.panel
    workers = workers_of(request, len(folds.left))
    likelihoods = [likelihood.on(panel.select(kept)) for kept in folds.kept]
    others = [likelihood.on(panel.select(left)) for left in folds.left]
    rule, taken = node_rule(likelihood), list[Step]()

    def begin(fold: tuple[Likelihood, Point]) -> Learned:
        return climbed(*fold, (), quiet)

    def rise(fold: tuple[Likelihood, Likelihood, Learned]) -> tuple[Learned, Tensor]:
        one, other, state = fold
        state = follow(state, one.panel, quiet, rule)
        return state, score(other.under(state.model), state.theta)

    states = list(each(begin, list(zip(likelihoods, apart.points, strict=True)), workers))
    found: list[Ladder] = []
    while True:
        step = _next(likelihood.model, taken) if steps is None else steps[len(taken)]
        taken.append(step)
        below = [state.under(dict(step)) for state in states]
        risen = list(each(rise, list(zip(likelihoods, others, below, strict=True)), workers))
        states, scores = [state for state, _ in risen], folds.joined([own for _, own in risen])
        plain = all(classical(state.model, state.theta) for state in states)
        found.append(Ladder(tuple(taken), scores, plain))
        if steps is not None:
            if len(taken) == len(steps):
                return found[-1]
        elif _last(step) or _silent(states) or _settled(found, apart.scores):
            return _taken(found, apart.scores)


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


def _silent(states: Sequence[Learned]) -> bool:
    """Whether no network whose penalty is to be chosen says anything, in any fold."""
    return all(
        set(open_ridges(state.model)) <= set(silent(state.model, state.theta)) for state in states
    )


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
