"""Maximum and penalties in turn, for models with networks on the fixed side alone.

The penalised likelihood is maximised by L-BFGS in coordinates z in which the expected information
is the identity. The penalty of a network follows the evidence from above, from START_RIDGE down:

    log evidence = l - sum_g kappa_g |w_g|^2 / 2 - log det(I + A'A) / 2,
    kappa_g  <-  edf_g / |w_g|^2,   edf_g = tr over w_g of (I + A'A)^-1 A'A,

the weights following kappa by the quadratic approximation at hand. The fixed point of the second
line leaves out that A depends on w, so the walk ends where the evidence falls, and a part of the
penalty reached there is kept. It starts in the smooth regime because a large network under a small
penalty has many maxima, and the one with the largest penalised likelihood is as a rule not that
with the largest evidence.
MacKay (1992), Neural Computation 4, 448-472.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from dgmm.model import Model
from dgmm.numerics.walled import Walled
from dgmm.penalised.evidence import ridge_by_evidence
from dgmm.penalised.objective import Metric, Penalised, State, metric_root
from dgmm.penalised.split import Split

__all__ = ["Reached", "climb_networks", "ridges"]

SHORT = 0.4
"""Change of a log penalty that is made at once; the approximation behind it is a local one."""

SETTLED = 0.05
"""Change of a log penalty that is not worth another maximisation."""

NEAR = 0.5
"""Decrement at which the quadratic approximation is good enough to choose a penalty by."""

UNDER = 0.5
"""Share of the penalty of the evidence that is kept. At that penalty itself the bias of the curve
is too large a part of its error: its bands cover 1 to 2 points less (docs/benchmarks.md)."""

REJECTED = 4.0
"""Log evidence by which the maximum under that share may be worse than the best on the walk; else
the share is doubled. A rough curve with a larger penalised likelihood may lie near a smooth one."""

MOST_SHARE = 4.0


@dataclass(frozen=True)
class Reached:
    """The maximum found."""

    x: np.ndarray
    w: Tensor
    model: Model  # with the penalties chosen
    whole: Model  # with those of the evidence
    value: float  # log-likelihood
    evidence: float
    decrement: float
    settled: bool  # the penalties no longer move
    evaluations: int
    metric: Metric
    path: tuple[float, ...]  # penalised log-likelihood at the start of every round

    @property
    def here(self) -> State:
        """The maximum, with its penalties held."""
        return State(self.x, self.w, replace(self.model, open_ridge=()))

    @property
    def start(self) -> State:
        """Where a search on similar data begins: here, under the penalties of the evidence."""
        return State(self.x, self.w, self.whole)


def climb_networks(
    objective: Penalised,
    state: State,
    *,
    tolerance: float,
    rounds: int,
    evaluations: int,
    seed: int,
    report: Callable[[int, float], None] | None = None,
) -> Reached:
    """Alternate between the penalties and the maximum under them until both stand still.

    Args:
        objective: the penalised likelihood.
        state: where to begin, with the penalties to begin with.
        tolerance: Newton decrement, in standard errors, at the end.
        rounds: most renewals of the metric.
        evaluations: most calls of the objective in a round.
        seed: of the block power method.
        report: told the round and its decrement.
    """
    search = _Search(objective.split, open_networks(state.model))
    metric: Metric | None = None
    path = []
    for number in range(rounds + 1):
        here = _look(objective, state, seed, metric)
        metric = here.metric
        path.append(here.value)
        if report is not None:
            report(number, here.decrement)
        if number == rounds:
            break
        retreat = search.retreat(here)
        if retreat is not None:
            state = retreat
            continue
        if search.settled and here.decrement < tolerance:
            break
        moved = search.advance(here)
        target = 0.5 * tolerance if search.settled else 0.1 * NEAR
        metric = metric.with_root(metric_root(objective.split, moved.model))
        state = _maximised(objective, moved, metric, target, evaluations)
    plain = here.value + 0.5 * float(objective.split.kappa(state.model) @ state.w.square())
    return Reached(
        state.x,
        state.w,
        state.model,
        search.best.state.model if search.best is not None else state.model,
        plain,
        here.evidence,
        here.decrement,
        search.settled,
        objective.used,
        here.metric,
        tuple(path),
    )


@dataclass(frozen=True)
class _Here:
    """What is known of a state."""

    state: State
    value: float  # penalised
    slope: Tensor  # its gradient in w, beta~ at its maximum
    metric: Metric
    decrement: float
    evidence: float


def _look(objective: Penalised, state: State, seed: int, before: Metric | None) -> _Here:
    kappa = objective.split.kappa(state.model)
    value, to_x, to_w, scores = objective(state.x, state.w, kappa, scores=True)
    assert scores is not None
    metric = objective.metric(state, scores, seed, before)
    return _Here(
        state,
        value,
        metric.profiled(to_x, to_w),
        metric,
        float(metric.gradient(to_x, to_w).norm()),
        value - 0.5 * float(metric.low.log_det),
    )


# -- penalties -----------------------------------------------------------------------------------


def open_networks(model: Model) -> list[str]:
    """The networks whose penalty the evidence chooses."""
    return [name for name in model.penalised() if name in model.open_ridge]


def ridges(model: Model) -> dict[str, float]:
    """The penalty of every network."""
    return {name: model.ridge_of(name) for name in model.penalised()}


class _Search:
    """The walk of the penalties, the best place by evidence so far, and the share that is kept."""

    def __init__(self, split: Split, chosen: list[str]) -> None:
        self.split, self.chosen = split, chosen
        self.settled = not chosen
        self.share = UNDER
        self.best: _Here | None = None

    def retreat(self, here: _Here) -> State | None:
        """The state to go back to when the evidence fell, at the maximum near ``here`` too."""
        if self.best is None or not self.chosen:
            return None
        reachable = here.evidence + 0.5 * here.decrement**2
        if self.settled:
            if self.share >= MOST_SHARE or reachable >= self.best.evidence - REJECTED:
                return None
            self.share *= 2
        elif reachable >= self.best.evidence:
            return None
        return self._finish(self.best)

    def advance(self, here: _Here) -> State:
        """The same place under the next penalties."""
        if self.settled or here.decrement >= NEAR:
            return here.state
        self.best = here
        model = next_penalty(self.split, here)
        old, new = ridges(here.state.model), ridges(model)
        if max(abs(math.log(new[g] / old[g])) for g in self.chosen) < SETTLED:
            return self._finish(here)
        return State(here.state.x, here.state.w, model)

    def _finish(self, here: _Here) -> State:
        """The penalties that stay: a share of those of the evidence, where a network is needed."""
        self.settled = True
        model, kept = here.state.model, {}
        for name in self.chosen:
            at = self.split.packing.positions(model.penalised()[name])
            needed = float(here.metric.low.share[at].sum()) >= 1.0
            kept[name] = (self.share if needed else 1.0) * model.ridge_of(name)
        return State(here.state.x, here.state.w, model.with_ridge(kept))


def next_penalty(split: Split, here: _Here) -> Model:
    """kappa = edf / |w|^2 of every open network, w following by the quadratic approximation."""
    model, chosen = here.state.model, open_networks(here.state.model)
    base, w = split.kappa(model), here.state.w
    at = {g: split.packing.positions(names) for g, names in model.penalised().items()}
    moved = model
    for _ in range(20):
        root = metric_root(split, moved)
        low = here.metric.with_root(root).low
        push = here.slope + (base - split.kappa(moved)) * w
        there = w + low.solve(push / root) / root
        wanted = {
            g: ridge_by_evidence(float(low.share[at[g]].sum()), float(there[at[g]].square().sum()))
            for g in chosen
        }
        change = max(abs(math.log(wanted[g] / moved.ridge_of(g))) for g in chosen)
        moved = moved.with_ridge(wanted)
        if change < 0.1 * SETTLED:
            break
    return model.with_ridge({g: _damped(model.ridge_of(g), moved.ridge_of(g)) for g in chosen})


def _damped(old: float, wanted: float) -> float:
    """Half of the way on the log scale, all of it when that is short."""
    return wanted if abs(math.log(wanted / old)) < SHORT else math.sqrt(old * wanted)


# -- maximum -------------------------------------------------------------------------------------


def _maximised(
    objective: Penalised, state: State, metric: Metric, target: float, evaluations: int
) -> State:
    """L-BFGS in the coordinates of a metric, until the gradient there is below ``target``."""
    kappa = objective.split.kappa(state.model)
    last = np.inf

    def surface(z: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal last
        step, move = metric.back(torch.from_numpy(z))
        value, to_x, to_w, _ = objective(state.x + step, state.w + move, kappa)
        slope = metric.gradient(to_x, to_w).numpy()
        last = float(np.linalg.norm(slope))
        return -value, -slope

    def near(_: np.ndarray) -> None:
        if last < target:
            raise StopIteration

    found = optimize.minimize(
        Walled(surface),
        np.zeros(len(state.x) + len(state.w)),
        jac=True,
        method="L-BFGS-B",
        callback=near,
        options={"maxfun": evaluations, "gtol": 0.0, "ftol": 1e-15, "maxcor": 30},
    )
    step, move = metric.back(torch.from_numpy(found.x))
    return State(state.x + step, state.w + move, state.model)
