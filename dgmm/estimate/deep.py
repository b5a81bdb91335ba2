"""Models with neural random effects, from the nested classical fit upwards.

1  decoder and encoder tied to the nested classical model
2  learning (:mod:`dgmm.estimate.learners`) up a ladder of penalties, which folds of the subjects
   have chosen (:mod:`dgmm.estimate.ladder`); those of networks on the fixed side by evidence.
   Where the formula leaves the form of a term open, every form does so, and one is taken
3  every start is brought to the maximum of the penalised marginal likelihood
4  log-likelihood with fresh nodes and its error; the encoder brought to theta-hat
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dgmm.design import Design
from dgmm.estimate.amortised import with_encoder
from dgmm.estimate.folds import Folds
from dgmm.estimate.ladder import (
    Ladder,
    climbed,
    first_step,
    node_rule,
    open_ridges,
    scored,
)
from dgmm.estimate.learners import Learned, with_completed
from dgmm.estimate.nested import Apart, Nested
from dgmm.estimate.records import (
    Estimate,
    FormChoice,
    HeldOut,
    Member,
    Request,
    mean_and_error,
)
from dgmm.estimate.starts import distances, own_request, workers_of
from dgmm.likelihood import Likelihood
from dgmm.likelihood.polish import Polished
from dgmm.model import Model, candidates
from dgmm.panel import Panel
from dgmm.penalised.marginal import Climb, Top, climb, node_error
from dgmm.runtime.parallel import each, one_thread
from dgmm.runtime.progress import Progress

__all__ = ["cannot", "fit_above", "fit_deep", "polish_heads"]

FINAL_ROUNDS, FINAL_EVALUATIONS = 3, 150
"""Of the ascent to the maximum, at most."""

FAR = 0.2
"""Nats per subject by which a start may be worse than the best and still enter predictions."""


@dataclass(frozen=True)
class _Start:
    """The maximum that one start reached."""

    learned: Learned
    polished: Top
    log_likelihood: float  # by nodes that all starts have in common

    @property
    def value(self) -> float:
        """The penalised log-likelihood."""
        return self.log_likelihood - float(self.learned.model.penalty(self.polished.theta))

    @property
    def coefficients(self) -> Tensor:
        """Those of the linear columns, (p,)."""
        return self.learned.model.coefficients(self.polished.theta).detach()


def cannot(model: Model, request: Request) -> str | None:
    """Why this is not the way; None when it is."""
    return "there is no network" if model.linear else None


def fit_above(likelihood: Likelihood, nested: Design | None, request: Request) -> Estimate:
    """Fit a model with neural random effects above the classical model of a design."""
    assert nested is not None
    return fit_deep(likelihood, Nested.of(nested, request, "auto"), request)


@one_thread()  # the order of sums must not decide between maxima
def fit_deep(likelihood: Likelihood, below: Nested, request: Request) -> Estimate:
    """Fit a model with neural random effects above a nested classical one.

    The start of the largest penalised likelihood is reported; predictions average over all of them.
    """
    panel = likelihood.panel
    classical = below.fit()
    folds = Folds.deal(panel, request.seed)
    apart = None
    if folds is not None and _open(likelihood.model):
        apart = below.apart(folds, classical.theta, workers_of(request, len(folds.left)))
    model, ladder, form_choice = _form(likelihood, apart, request)
    likelihood = likelihood.under(model)
    steps = (first_step(model),) if ladder is None else ladder.steps

    def reach(number: int) -> _Start:
        own = own_request(request, number)
        plain = ladder is not None and ladder.classical
        learned = climbed(likelihood, classical, steps, own, plain)
        if request.missing == "saem":
            learned = with_completed(learned, panel, own)
        return _finished(likelihood, learned, request)

    reached = list(each(reach, range(request.starts), workers_of(request)))
    best = max(range(len(reached)), key=lambda j: reached[j].value)
    learned, polished = reached[best].learned, reached[best].polished
    done = Estimate.of(likelihood.under(learned.model).concluded(polished), request.method)
    done = with_encoder(done, learned.encoder, learned.phi, learned.trace, request)
    share = request.control.holdout
    if folds is None and (_open(likelihood.model) or share > 0):
        seen = len(panel.seen)
        note = (
            f"no comparison on held-out subjects: {seen} with an outcome are too few; the ridge of "
            "neural random effects is the one it starts with"
        )
        done = replace(done, messages=(*done.messages, note))
    held_out = None
    parts = Folds.deal(panel, request.seed, share) if share > 0 else None
    if parts is not None:
        if ladder is None or apart is None or len(parts.left) != len(apart.folds.left):
            apart = below.apart(parts, classical.theta, workers_of(request, len(parts.left)))
            ladder = scored(likelihood, apart, request, steps)
        held_out = HeldOut.of(ladder.scores - apart.scores, len(parts.left))
    near = [one for one in reached if one.value > reached[best].value - FAR * panel.n]
    return replace(
        done,
        nested=classical,
        held_out=held_out,
        form_choice=form_choice,
        start_spread=tuple(one.value for one in reached),
        start_log_likelihood=tuple(one.log_likelihood for one in reached),
        start_coefficients=torch.stack([one.coefficients for one in reached]),
        node_error=_node_error(likelihood, reached[best], request),
        saem=learned.account,
        start_distance=distances(
            [(one.learned.model, one.polished.theta) for one in reached], best, panel
        ),
        others=tuple(
            Member(one.learned.model, one.polished.theta)
            for one in near
            if one is not reached[best]
        ),
    )


# -- forms and penalties -------------------------------------------------------------------------


def _open(model: Model) -> bool:
    """Whether a penalty or a form is to be chosen by subjects left out."""
    first, *others = candidates(model)
    return bool(others or open_ridges(first))


def _form(
    likelihood: Likelihood, apart: Apart | None, request: Request
) -> tuple[Model, Ladder | None, FormChoice | None]:
    """The model among its candidates with its penalties; None where nothing is to be chosen.

    The first one unless another is better by more than two standard errors of the difference.
    """
    first, *others = candidates(likelihood.model)
    if apart is None:
        return first, None, None
    plain = scored(likelihood.under(first), apart, request)
    if not others:
        return first, plain, None
    found = []
    for model in others:
        other = scored(likelihood.under(model), apart, request)
        found.append((model, other, other.scores - plain.scores))
    model, other, gain = max(found, key=lambda one: float(one[2].mean()))
    difference, error = mean_and_error(gain)
    better = difference > 2 * error
    words = [_spelled(one, two) for one, two in ((model, first), (first, model))]
    taken, left = words if better else words[::-1]
    choice = FormChoice(
        len(gain), len(apart.folds.left), taken, left, difference if better else -difference, error
    )
    return (model, other, choice) if better else (first, plain, choice)


def _spelled(model: Model, other: Model) -> str:
    """The options by which a formula asks for a model rather than for another."""
    pairs = zip(model.latents, other.latents, strict=True)
    return ", ".join(
        f"{name}={value!r}"
        for own, its in pairs
        if own.spelled() != its.spelled()
        for name, value in own.spelled().items()
    )


# -- the maximum ---------------------------------------------------------------------------------


def _finished(likelihood: Likelihood, learned: Learned, request: Request) -> _Start:
    """The maximum near where learning ended; all starts are polished with the same nodes."""
    control, model = request.control, learned.model
    how = Climb(
        draws=control.polish_draws,
        most_draws=control.polish_draws,
        rounds=FINAL_ROUNDS if control.polish else 0,
        evaluations=FINAL_EVALUATIONS,
        tolerance=control.tolerance,
        expected=True,
    )
    with Progress(request.verbose, how.rounds, "maximum") as bar:
        found = climb(
            model,
            learned.theta,
            likelihood.observed,
            request.seed,
            how,
            rule=node_rule(likelihood),
            start=learned.near,
            progress=bar,
        )
    own = likelihood.under(model).by(draws=control.polish_draws, replicates=2)
    return _Start(learned, found, own.value(found.theta))


def _node_error(likelihood: Likelihood, start: _Start, request: Request) -> Tensor | None:
    """Monte Carlo error of the coefficients, in standard errors; None where nodes are not drawn."""
    if not likelihood.sampled:
        return None
    draws, model = request.control.polish_draws, start.learned.model
    return node_error(model, start.polished, likelihood.observed, request.seed, draws)


def polish_heads(done: Estimate, panel: Panel, request: Request) -> Polished:
    """Linear parts and last layers fitted to other subjects, the hidden layers held."""
    control, likelihood = request.control, done.likelihood.on(panel)
    return likelihood.by(draws=control.polish_draws).polished(
        done.theta, free=done.model.head(), tolerance=control.tolerance
    )
