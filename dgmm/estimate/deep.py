"""Models with neural random effects, from the nested classical fit upwards.

1  decoder and encoder tied to the nested classical model
2  learning (:mod:`dgmm.estimate.learners`) under one penalty after the other, each scored on folds
   of the subjects (:mod:`dgmm.estimate.folds`); penalties of networks on the fixed side by evidence
3  every start is brought to the maximum of the penalised marginal likelihood
4  log-likelihood with fresh nodes and its error; the encoder brought to theta-hat
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dgmm.design import Design
from dgmm.estimate.amortised import with_encoder
from dgmm.estimate.folds import Folds
from dgmm.estimate.learners import Learned, follow, kindle, tied_start, with_completed
from dgmm.estimate.nested import Nested
from dgmm.estimate.records import Estimate, HeldOut, Member, Request
from dgmm.estimate.starts import distances, own_request, workers_of
from dgmm.likelihood import Likelihood, NodeRule
from dgmm.likelihood.polish import Polished
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.penalised.marginal import Climb, Top, climb, node_error
from dgmm.runtime.parallel import each
from dgmm.runtime.progress import Progress

__all__ = ["cannot", "fit_deep", "polish_heads"]

RISE, GRID = 8.0, 3.0
"""Ratio of the first penalty compared to that under which learning begins; of neighbours."""

LARGEST = 2000.0
"""Penalty beyond which the comparison does not go."""

WORTH = 1e-3
"""Nats per subject by which the next penalty must be better for another to be tried."""

FINAL_ROUNDS, FINAL_EVALUATIONS = 2, 100
"""Of the ascent to the maximum: the anchors move once on the way."""

FAR = 0.2
"""Nats per subject by which a start may be worse than the best and still enter predictions."""


@dataclass(frozen=True)
class _Tried:
    """A penalty that was tried."""

    learned: Learned
    gain: Tensor | None  # of every subject with an outcome


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
        return self.learned.model.beta(self.polished.theta).detach()


def cannot(model: Model, request: Request) -> str | None:
    """Why this is not the way; None when it is."""
    return "there is no network" if model.linear else None


def fit_deep(likelihood: Likelihood, nested: Design | None, request: Request) -> Estimate:
    """Fit a model with neural random effects.

    The start of the largest penalised likelihood is reported; predictions average over all of them.
    """
    assert nested is not None
    panel = likelihood.panel
    below = Nested.of(nested, request, "auto")
    classical = below.fit()
    wanted = bool(_open(likelihood.model)) or request.control.holdout > 0
    folds = Folds.deal(likelihood, below, classical, request) if wanted else None
    walk = _walk(likelihood, classical, folds, own_request(request, 0))
    at = max(range(len(walk)), key=lambda j: _mean(walk[j].gain))
    chosen = {name: walk[at].learned.model.ridge_of(name) for name in _open(likelihood.model)}

    def reach(number: int) -> _Start:
        own = own_request(request, number)
        learned = walk[at].learned if number == 0 else _other(likelihood, classical, chosen, own)
        if request.missing == "saem":
            learned = with_completed(learned, panel, own)
        return _finished(likelihood, learned, request)

    reached = list(each(reach, range(request.starts), workers_of(request)))
    best = max(range(len(reached)), key=lambda j: reached[j].value)
    learned, polished = reached[best].learned, reached[best].polished
    done = Estimate.of(likelihood.under(learned.model).concluded(polished), request.method)
    done = with_encoder(done, learned.encoder, learned.phi, learned.trace, request)
    if folds is None and wanted:
        seen = len(panel.subject[panel.observed].unique())
        note = (
            f"no comparison on held-out subjects: {seen} with an outcome are too few; the ridge of "
            "neural random effects is the one it starts with"
        )
        done = replace(done, messages=(*done.messages, note))
    gain = None
    if folds is not None and request.control.holdout > 0:
        gain = folds.gain(learned.model, polished.theta, _rule(likelihood))
    near = [one for one in reached if one.value > reached[best].value - FAR * panel.n]
    return replace(
        done,
        nested=classical,
        held_out=None if gain is None else HeldOut.of(gain),
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


# -- penalties -----------------------------------------------------------------------------------


def _open(model: Model) -> list[str]:
    """The neural random effects whose penalty the user left open."""
    return [
        name for name in model.penalised() if name.startswith("latent") and name in model.open_ridge
    ]


def _walk(
    likelihood: Likelihood, below: Estimate, folds: Folds | None, request: Request
) -> list[_Tried]:
    """Learn under one penalty after the other, as long as the score rises.

    From the starting penalty up, GRID times larger each time, the weights going on from one to the
    next: under a large penalty a silent network is a maximum from which nothing leads away.
    """
    model, panel, rule = likelihood.model, likelihood.panel, _rule(likelihood)
    state = kindle(tied_start(model, panel, below, request), panel, request, rule)
    walk: list[_Tried] = []
    while True:
        state = follow(
            state.under(_next(state.model, GRID if walk else RISE)), panel, request, rule
        )
        assert state.top is not None
        gain = None if folds is None else folds.guess(state.model, state.top)
        walk.append(_Tried(state, gain))
        worse = len(walk) > 1 and _mean(gain) < _mean(walk[-2].gain) + WORTH
        largest = max(_next(state.model, GRID).values(), default=math.inf)
        if gain is None or worse or largest > LARGEST:
            return walk


def _next(model: Model, ratio: float) -> dict[str, float]:
    """The penalties that follow those of a model."""
    return {name: ratio * model.ridge_of(name) for name in _open(model)}


def _mean(gain: Tensor | None) -> float:
    return 0.0 if gain is None else float(gain.mean())


def _other(
    likelihood: Likelihood, below: Estimate, chosen: dict[str, float], request: Request
) -> Learned:
    """Another start under the penalties that were chosen with the first."""
    panel, rule = likelihood.panel, _rule(likelihood)
    state = kindle(tied_start(likelihood.model, panel, below, request), panel, request, rule)
    return follow(state.under(chosen), panel, request, rule)


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
            rule=_rule(likelihood),
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


def _rule(likelihood: Likelihood) -> NodeRule | None:
    """The nodes of a likelihood whose nodes are not sampled."""
    return None if likelihood.sampled else likelihood.score_rule()


def polish_heads(done: Estimate, panel: Panel, request: Request) -> Polished:
    """Linear parts and last layers fitted to other subjects, the hidden layers held."""
    control, likelihood = request.control, done.likelihood.on(panel)
    return likelihood.by(draws=control.polish_draws).polished(
        done.theta, free=done.model.head(), tolerance=control.tolerance
    )
