"""Networks on the fixed side alone: penalised marginal likelihood, no ELBO.

Every random part is linear, so the classical engines give the likelihood with the networks as an
offset: exact for Gaussian outcomes, else by quadrature around the modes after Laplace, or by
importance sampling from where Laplace ended. Penalties are chosen by evidence on the way.

1  nested classical fit; skips and linear columns reproduce its mu1, layers start nearly silent
2  where there are many rows, the search of 3 on some of the subjects
3  penalties and maximum over all parameters together, in turn, until both stand still
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dgmm.design import Design
from dgmm.estimate.folds import Folds
from dgmm.estimate.nested import REFIT, Nested, score
from dgmm.estimate.records import Estimate, HeldOut, Request
from dgmm.estimate.starts import distances
from dgmm.likelihood import Laplace, Likelihood
from dgmm.likelihood.base import unreached
from dgmm.likelihood.gaussian_offset import ResidualLikelihood
from dgmm.likelihood.growth import (
    HANDOVER_DECREMENT,
    RULE_TOLERANCE,
    first_quadrature,
    likelihood_at,
    moved,
)
from dgmm.likelihood.profiling import near_zero
from dgmm.likelihood.rules import Quadrature
from dgmm.likelihood.vector import ClassicalObjective
from dgmm.model import START_RIDGE, Model
from dgmm.networks import Weights
from dgmm.parameters import Theta
from dgmm.penalised.objective import Penalised, State
from dgmm.penalised.search import Reached, climb_networks, ridges
from dgmm.penalised.split import Split, fixed_only, take_apart
from dgmm.runtime.parallel import one_thread
from dgmm.runtime.progress import Progress

__all__ = ["cannot", "fit_curved"]

FIRST_ROWS = 3_000
"""With more than twice as many rows, the search begins on about so many."""

ROUGHLY = 0.1
"""Decrement, in standard errors, at which that search ends."""

SILENT = 0.5
"""Effective degrees of freedom of the layers below which a network says nothing."""

WAKING = (1.0, 0.5, 0.25, 0.12, 0.06, 0.03)
"""Shares of START_RIDGE under which it is tried again, until it speaks: under a penalty much
smaller than needed it would be rough at once."""

ROUNDS = 40
EVALUATIONS = 40

Report = Callable[[int, float], None]


def cannot(model: Model, request: Request) -> str | None:
    """Why the penalised marginal likelihood is not maximised; None when it is."""
    if request.method == "vae":
        return "method='vae' takes the variational bound"
    if model.serial:
        return "there is a path beside the networks"
    if not fixed_only(model):
        return "the penalised likelihood is for networks on the fixed side alone"
    return None


@one_thread()  # the order of sums must not decide between maxima
def fit_curved(likelihood: Likelihood, nested: Design | None, request: Request) -> Estimate:
    """Fit a model whose networks are all on the fixed side."""
    assert nested is not None
    panel = likelihood.panel
    below = Nested.of(nested, request, request.likelihood)
    classical = below.fit()
    split, reached = _reached(likelihood, classical, request)
    number = max(range(len(reached)), key=lambda j: reached[j].found.evidence)
    best = reached[number]
    done = _concluded(likelihood, split, best, request)
    share = request.control.holdout
    folds = Folds.deal(panel, request.seed, share) if share > 0 else None
    held_out = None
    if folds is not None:
        gain = _scores(folds, done, best, request) - below.apart(folds, classical.theta).scores
        held_out = HeldOut.of(gain, len(folds.left))
    ends = [(one.found.model, one.theta(split)) for one in reached]
    return replace(
        done,
        nested=classical,
        held_out=held_out,
        start_spread=tuple(one.found.evidence for one in reached),
        start_distance=distances(ends, number, panel),
    )


def _reached(
    likelihood: Likelihood, below: Estimate, request: Request
) -> tuple[Split, list[_Ended]]:
    """Where every start ended, all by the same rule.

    Penalties belong to a start; the evidence, by which starts are compared, takes account of them.
    """
    split = take_apart(likelihood.model.with_reference(likelihood.panel), likelihood.observed)
    reached = []
    for number in range(request.starts):
        seed = request.seed + 1000 * number
        with Progress(request.verbose, ROUNDS, "penalised likelihood") as bar:

            def report(step: int, decrement: float) -> None:
                bar.update(step, elbo=None, gradient=decrement)

            first = _started(likelihood, split, below, seed)
            # the penalties of that start, the centres of this panel
            first = replace(first, model=split.model.with_ridge(ridges(first.model)))
            reached.append(_climb(likelihood, split, first, request, seed, report))
    longest = max(one.points or 0 for one in reached)
    return split, [_by_points(split, one, longest, request) for one in reached]


# -- starting values -----------------------------------------------------------------------------


def _started(likelihood: Likelihood, split: Split, below: Estimate, seed: int) -> State:
    """Layers near zero; of many rows some are fitted first, at a fraction of the cost."""
    panel, generator = likelihood.panel, torch.Generator().manual_seed(seed)
    if split.panel.n_rows <= 2 * FIRST_ROWS:
        return _silent(split, _first_engine(likelihood, split), below, generator)
    some = panel.select(np.arange(0, panel.n, -(-panel.n_rows // FIRST_ROWS)))
    part = take_apart(split.model.with_reference(some), some.observed_rows())
    engine = _first_engine(likelihood, part)
    found = climb_networks(
        Penalised(part, engine),
        _silent(part, engine, below, generator),
        tolerance=ROUGHLY,
        rounds=ROUNDS,
        evaluations=EVALUATIONS,
        seed=seed,
    )
    return found.start


def _silent(
    split: Split, engine: ClassicalObjective, below: Estimate, generator: torch.Generator
) -> State:
    """Layers nearly silent, everything else at the nested fit."""
    theta: Weights = {}
    for i, network in enumerate(split.model.networks, 1):
        weights = network.network.initial(generator, last=0.02)
        theta |= {f"dnn{i}.{name}": value for name, value in weights.items()}
    w = split.packing.pack(theta)
    X = split.panel.rows.X @ split.classical.basis
    target = _nested_mean(split, below) - split.sweep(w).effect()
    beta = torch.linalg.lstsq(X, target[:, None], driver="gelsd").solution[:, 0]
    x = engine.vector({**below.theta, "beta": beta})
    # zero is a stationary point of every entry of Lambda, so none may start there
    entries = x[engine.sizes[0] :][: engine.sizes[1]]
    entries[near_zero(engine.pattern, entries)] = 0.3
    # least squares may differ in the last bit from call to call; rounded, runs repeat exactly
    return State(x.astype(np.float32).astype(float), w, split.model)


def _woken(split: Split, found: Reached, share: float, seed: int) -> State | None:
    """Another start, under a share of START_RIDGE, where a network fell silent; else None.

    Zero is a local maximum under a large penalty, also for a network that is needed.
    """
    model, w = found.model, found.w.clone()
    generator, known, smaller = torch.Generator().manual_seed(seed + 1), found.metric.low.share, {}
    for i, network in enumerate(model.networks, 1):
        name = f"dnn{i}"
        at = split.packing.positions(model.penalised()[name])
        if name in model.open_ridge and float(known[at].sum()) < SILENT:
            weights = network.network.initial(generator, last=0.02)
            w[at] = torch.cat([value.reshape(-1) for value in weights.values()])
            smaller[name] = share * START_RIDGE
    return State(found.x, w, model.with_ridge(smaller)) if smaller else None


def _nested_mean(split: Split, below: Estimate) -> Tensor:
    """X beta of the nested fit at the rows of a split, without offset.

    The nested columns are those of the whole model with the inputs of its networks as linear terms.
    """
    rows = below.panel.align(split.panel.ids).observed_rows().rows
    return rows.X @ below.model.beta(below.theta).detach()


# -- the maximum ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Ended:
    """The maximum of one start, and the likelihood that it is a maximum of."""

    found: Reached
    engine: ClassicalObjective
    points: int | None  # of a quadrature that grew
    change: float  # of the log-likelihood under a longer rule

    def theta(self, split: Split) -> Theta:
        """theta of the whole model."""
        return split.theta(self.engine.theta(self.found.x), self.found.w)


def _first_engine(likelihood: Likelihood, split: Split) -> ClassicalObjective:
    """The exact likelihood, or Laplace's approximation of it."""
    if likelihood.exact:
        return ResidualLikelihood(split.classical, split.panel)
    return likelihood_at(split.classical, split.panel, Laplace())


def _climb(
    likelihood: Likelihood,
    split: Split,
    start: State,
    request: Request,
    seed: int,
    report: Report,
) -> _Ended:
    """Exact or Laplace to the end; a quadrature that grows until a longer one confirms it."""
    engine = _first_engine(likelihood, split)
    last = not (likelihood.grows or likelihood.sampled)

    def reach(at: ClassicalObjective, state: State, tolerance: float) -> Reached:
        return climb_networks(
            Penalised(split, at),
            state,
            tolerance=tolerance,
            rounds=ROUNDS,
            evaluations=EVALUATIONS,
            seed=seed,
            report=report,
        )

    tolerance = request.control.tolerance if last else HANDOVER_DECREMENT
    found = reach(engine, start, tolerance)
    latest = found
    for share in WAKING:
        woken = _woken(split, latest, share, seed)
        if woken is None:
            break
        latest = reach(engine, woken, tolerance)
        found = latest if latest.evidence > found.evidence else found
    if not likelihood.grows:
        return _Ended(found, engine, None, 0.0)
    rule = first_quadrature(split.classical.k, likelihood.integration)
    while True:
        engine = moved(engine, rule)
        found = reach(engine, found.start, HANDOVER_DECREMENT)
        longer, change = rule.longer(split.classical.k), 0.0
        if longer is None:
            break
        trial = moved(engine, longer)
        trial.offset = engine.offset
        change = abs(trial.value_and_gradient(found.x).value - found.value)
        if request.control.points is not None:
            break
        rule, engine = longer, trial
        if change < RULE_TOLERANCE:
            break
    return _Ended(
        reach(engine, found.start, request.control.tolerance), engine, rule.points, change
    )


def _by_points(split: Split, ended: _Ended, points: int, request: Request) -> _Ended:
    """The maximum of a start by a quadrature with so many points, if it ended with fewer."""
    if ended.points is None or ended.points == points:
        return ended
    engine = moved(ended.engine, Quadrature(points))
    found = climb_networks(
        Penalised(split, engine),
        ended.found.here,
        tolerance=request.control.tolerance,
        rounds=ROUNDS,
        evaluations=EVALUATIONS,
        seed=request.seed,
    )
    found = replace(found, model=ended.found.model, settled=ended.found.settled)
    return replace(ended, found=found, engine=engine, points=points)


# -- subjects left out ---------------------------------------------------------------------------


def _scores(folds: Folds, done: Estimate, ended: _Ended, request: Request) -> Tensor:
    """The score of every subject with an outcome, by fits without its fold, penalties held."""
    model, panel = replace(done.model, open_ridge=()), done.panel

    def without(kept: np.ndarray, left: np.ndarray) -> Tensor:
        likelihood = done.likelihood.on(panel.select(kept))
        split = take_apart(model, likelihood.observed)
        engine = _first_engine(likelihood, split)
        engine = engine if ended.points is None else moved(engine, Quadrature(ended.points))
        found = climb_networks(
            Penalised(split, engine),
            State(engine.vector(split.inner(done.theta)), ended.found.w, model),
            tolerance=REFIT,
            rounds=ROUNDS,
            evaluations=EVALUATIONS,
            seed=request.seed,
        )
        theta = split.theta(engine.theta(found.x), found.w)
        if likelihood.sampled:
            theta = (
                likelihood.by(draws=request.control.polish_draws)
                .polished(theta, tolerance=REFIT)
                .theta
            )
        return score(done.likelihood.on(panel.select(left)), theta)

    return folds.joined([without(*both) for both in zip(folds.kept, folds.left, strict=True)])


# -- the estimate --------------------------------------------------------------------------------


def _concluded(likelihood: Likelihood, split: Split, ended: _Ended, request: Request) -> Estimate:
    found, theta, tolerance = ended.found, ended.theta(split), request.control.tolerance
    own = likelihood.under(found.model)
    if own.sampled:
        polished = own.by(draws=request.control.polish_draws).polished(theta, tolerance=tolerance)
        return Estimate.of(own.concluded(polished), request.method)
    own = own if ended.points is None else own.by(points=ended.points)
    notes = [*unreached(found.decrement, tolerance)]
    if not found.settled:
        notes.append(
            "the ridge of a network still moved by more than a twentieth from round to round; "
            "refit with the ridge= that is printed, or another, and compare"
        )
    return Estimate(
        own,
        theta,
        found.value,
        ended.change,
        found.decrement,
        found.evaluations,
        found.decrement < tolerance and found.settled,
        tuple(notes),
        method=request.method,
    )
