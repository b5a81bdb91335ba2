"""The penalised marginal likelihood over all of theta, the weights of neural random effects too.

    l(theta) - sum_w kappa_w w^2 / 2

Nodes follow theta from fixed anchors, so that a round maximises a smooth function with an exact
gradient; then the anchors move. A round is L-BFGS in coordinates z in which the information is the
identity: with the scores s_i of subjects, K the penalties and a little of the diagonal elsewhere,

    M = sum_i s_i s_i' + K,     theta = theta_0 + M^-1/2 z.

With fewer subjects than weights their scores span too little of it; near the maximum half of M is
made of the scores of outcomes simulated from the model at the start (the expected information), as
many as are needed to span it all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from dgmm.likelihood import Importance, NodeRule, Quadrature, Spherical, freeze
from dgmm.likelihood.nodes import places
from dgmm.likelihood.polish import Polished, Surface, damping, kappa_vector
from dgmm.model import Model
from dgmm.model.simulation import simulate_every
from dgmm.numerics.lowrank import LowRank
from dgmm.numerics.walled import Walled
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta
from dgmm.posterior.proposal import Places
from dgmm.runtime.progress import Progress

__all__ = ["Climb", "Metric", "Top", "climb", "node_error", "search_rule", "simulated_scores"]

LEAST = 1e-3
"""Share of its own information that a parameter without a penalty has for one: rotations of b
change nothing, and would get unbounded steps."""

SIMULATED = 1200
"""Subjects, at least, whose simulated outcomes stand for the expected information."""

SIMULATED_DRAWS = 16

APPROACH, FOLLOW = 20, 6
"""Newton steps to the modes in which nodes are anchored, from afar and from those before."""

PRODUCT, MOST_POINTS = 3, 25
"""Most dimensions of a product rule, and most points in each."""

MEMORY = 40
"""Steps that L-BFGS remembers."""

ROUNDED = 0.1
"""Share of the decrement at the end that the rounding of single precision may be, as may be that of
the value in nats."""

SINGLE = 0.05
"""Tolerance below which a round is in double precision: near a flat maximum L-BFGS lives on
differences of gradients that single precision does not have."""

OPTIMISM = 0.5
"""Nats by which moving the anchors may lower the value before the next round takes more draws: what
L-BFGS found there was in part the error of the nodes."""


@dataclass(frozen=True)
class Climb:
    """How far an ascent goes.

    draws: that :func:`search_rule` is given; ``most_draws`` bounds their doubling where they are
        too few.
    rounds, evaluations: most moves of the anchors, and most calls in between.
    tolerance: Newton decrement, in standard errors, at the end.
    expected: whether the expected information takes part in the metric.
    """

    draws: int = 32
    most_draws: int = 128
    rounds: int = 6
    evaluations: int = 15
    tolerance: float = 0.1
    expected: bool = False


@dataclass(frozen=True)
class Metric:
    """M = D^1/2 (I + A'A) D^1/2, A = S D^-1/2 with the scores S in its rows."""

    root: Tensor  # (P,) D^1/2
    low: LowRank
    scores: Tensor  # (m, P) S, those of the subjects first where there are others
    kappa: Tensor  # (P,)
    weak: Tensor  # (P,)

    @classmethod
    def of(cls, scores: Tensor, kappa: Tensor, weak: Tensor) -> Metric:
        """From scores (m, P), penalties (P,) and a weak prior (P,) on parameters without one."""
        least = torch.where(kappa > 0, kappa, LEAST * scores.square().sum(0) + weak)
        root = torch.where(least > 0, least, 1.0).sqrt()
        return cls(root, LowRank.of(scores / root), scores, kappa, weak)

    def without(self, subjects: Tensor, n: int) -> tuple[Metric, Tensor]:
        """M without some of the n subjects, and the sum of the scores of these."""
        left, simulated = self.scores[subjects], len(self.scores) > n
        kept = self.scores.clone()
        kept[subjects] = 0.0
        kept[n:] *= math.sqrt(1 - len(subjects) / n)
        total = left.sum(0) * (math.sqrt(2) if simulated else 1.0)
        return Metric.of(kept, self.kappa, self.weak), total

    def back(self, z: Tensor) -> Tensor:
        """M^-1/2 z."""
        return self.low.back(z) / self.root

    def slope(self, gradient: Tensor) -> Tensor:
        """The gradient in z."""
        return self.low.back(gradient / self.root)

    def solve(self, x: Tensor) -> Tensor:
        """M^-1 x, of a vector or of columns."""
        root = self.root if x.ndim == 1 else self.root[:, None]
        return self.low.solve(x / root) / root


@dataclass(frozen=True)
class Top(Polished):
    """The maximum found, with the metric of the last round."""

    metric: Metric


def climb(
    model: Model,
    theta: Theta,
    panel: Panel,
    seed: int,
    how: Climb,
    *,
    rule: NodeRule | None = None,
    start: Tensor | Places | None = None,
    progress: Progress | None = None,
) -> Top:
    """Maximise over all of theta; the ridge is that of the model.

    rule: of the nodes, by default :func:`search_rule`.
    start: where the search for the modes begins, (n, k).
    """
    packing = model.packing
    kappa, weak = kappa_vector(model, packing), damping(packing)
    draws, used, path = how.draws, 0, []
    reached = -math.inf
    number, decrement = 0, math.inf
    simulated = simulated_scores(model, theta, panel, seed) if how.expected else None
    while True:
        nodes = rule or search_rule(model.k, draws)
        rng, steps = np.random.default_rng(seed), APPROACH if start is None else FOLLOW
        frozen = freeze(model, theta, panel, nodes, rng, start, iterations=steps)
        surface = Surface(frozen, theta, packing, kappa.numpy())
        x = packing.pack(theta)
        value, slope = surface(x.numpy())
        path.append(-value)
        if reached + value > OPTIMISM and 2 * draws <= how.most_draws:
            draws *= 2
        scores = frozen.scores(theta)
        if simulated is not None:
            scores = torch.cat([scores, simulated]) / math.sqrt(2)
        metric = Metric.of(scores, kappa, weak)
        begun = value, metric.slope(torch.from_numpy(slope))
        decrement = float(begun[1].norm())
        if progress is not None:
            progress.update(number, elbo=None, gradient=decrement)
        if decrement < how.tolerance or number == how.rounds:
            break
        number += 1
        x, reached, decrement, more = _risen(surface, x, begun, metric, how)
        used += more
        theta = {**theta, **packing.unpack(x)}
        if number == how.rounds:  # the maximum of this surface is the result
            break
        start = places(frozen)
    done = decrement < how.tolerance
    path = [*path, reached] if used else path
    return Top(theta, frozen, decrement, number, used, tuple(path), done, metric)


def search_rule(k: int, draws: int) -> NodeRule:
    """The nodes of a search: a product rule with some 2 x draws nodes up to three dimensions,
    spheres from four to seven where they have at most 2.5 x draws; else draws.

    L-BFGS finds what nodes have in error, the more the more weights there are. Of draws around a
    posterior that is not normal that is many times more than of as many nodes of such a rule.
    """
    if k <= PRODUCT:
        return Quadrature(min(MOST_POINTS, int((2 * draws) ** (1 / k) + 1e-9)))
    return Spherical.within(k, 1.5 * draws, 2.5 * draws) or Importance(draws)


def node_error(model: Model, top: Top, panel: Panel, seed: int, draws: int) -> Tensor:
    """How far every linear coefficient would move under other nodes, in standard errors, (p,).

        B M^-1 g / root diag B M^-1 B'

    with g the gradient at theta-hat by nodes that were not used to find it, B from theta to the
    coefficients of the columns as the user wrote them.
    """
    packing = model.packing
    rng = np.random.default_rng([seed, 97])
    rule = search_rule(model.k, draws)
    rule = rule if isinstance(rule, Importance) else search_rule(model.k, 4 * draws)
    frozen = freeze(model, top.theta, panel, rule, rng, places(top.frozen))
    x = packing.pack(top.theta)
    slope = packing.pack(frozen.value_and_gradient(top.theta)[1]) - top.metric.kappa * x
    at = packing.positions(f"{one.key}beta" for one in model.outcomes)
    back = torch.zeros(packing.size, len(at), dtype=torch.float64)
    back[at] = torch.block_diag(*(one.basis.T for one in model.outcomes))
    follow = top.metric.solve(back)
    return (follow.T @ slope) / (back.T @ follow).diagonal().sqrt()


def _at(surface: Surface, x: Tensor, metric: Metric) -> tuple[float, Tensor]:
    """The value of a surface, and its slope in z."""
    value, slope = surface(x.numpy())
    return value, metric.slope(torch.from_numpy(slope))


def _risen(
    surface: Surface, x: Tensor, begun: tuple[float, Tensor], metric: Metric, how: Climb
) -> tuple[Tensor, float, float, int]:
    """:func:`_round` in single precision where that is enough, its end in double.

    begun: value and slope at x.
    """
    if how.tolerance < SINGLE:
        return _round(surface, x, begun, metric, how)
    single = surface.single()
    rounded = _at(single, x, metric)
    off = max(abs(begun[0] - rounded[0]), float((begun[1] - rounded[1]).norm()))
    if not off < ROUNDED * how.tolerance:
        return _round(surface, x, begun, metric, how)
    x, *_, used = _round(single, x, rounded, metric, how)
    begun = _at(surface, x, metric)
    decrement, left = float(begun[1].norm()), how.evaluations - used
    if decrement < how.tolerance or left <= 0:
        return x, -begun[0], decrement, used
    how = replace(how, evaluations=left)
    x, reached, decrement, more = _round(surface, x, begun, metric, how)
    return x, reached, decrement, used + more


def _round(
    surface: Surface, x: Tensor, begun: tuple[float, Tensor], metric: Metric, how: Climb
) -> tuple[Tensor, float, float, int]:
    """The end of L-BFGS on a surface: theta, its value, the decrement there, evaluations."""
    best: tuple[float, Tensor, float] = (-math.inf, x, math.inf)
    last = math.inf

    def whitened(z: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal best, last
        there = x + metric.back(torch.from_numpy(z))
        value, slope = _at(surface, there, metric) if z.any() else begun
        last = float(slope.norm())
        if -value > best[0]:
            best = (-value, there, last)
        return value, slope.numpy()

    def near(_: np.ndarray) -> None:
        if last < how.tolerance:
            raise StopIteration

    found = optimize.minimize(
        Walled(whitened, capped=True),
        np.zeros(len(x)),
        jac=True,
        method="L-BFGS-B",
        callback=near,
        options={"maxfun": how.evaluations, "gtol": 0.0, "ftol": 1e-15, "maxcor": MEMORY},
    )
    value, there, decrement = best
    return there, value, decrement, int(found.nfev)


def simulated_scores(
    model: Model,
    theta: Theta,
    panel: Panel,
    seed: int,
    *,
    subjects: int = SIMULATED,
    draws: int = SIMULATED_DRAWS,
    refined: bool = False,
    packing: Packing | None = None,
) -> Tensor:
    """Scores of outcomes drawn from the model in place of those seen, (m, P).

    Their squares sum to the expected information: every subject is drawn as often as it takes to
    have ``subjects`` of them, and weighs in accordingly.

    refined: nodes are where posteriors that are not normal ask for them, else around modes.
    """
    replicates = max(1, math.ceil(subjects / panel.n))
    several = panel.select(np.tile(np.arange(panel.n), replicates))
    generator = torch.Generator().manual_seed(seed + 7919)
    b = torch.randn(several.n, model.k, generator=generator, dtype=torch.float64)
    values = simulate_every(model, theta, several, generator, b)
    own = [one.with_outcome(y) for one, y in zip(several.panels, values, strict=True)]
    drawn = replace(own[0], beside=tuple(own[1:]))
    rng = np.random.default_rng([seed, 5])
    frozen = freeze(model, theta, drawn, Importance(draws), rng, b, iterations=FOLLOW)
    if refined:
        near = places(frozen)
        frozen = freeze(model, theta, drawn, Importance(draws), rng, near, iterations=FOLLOW)
    return frozen.scores(theta, packing) / math.sqrt(replicates)
