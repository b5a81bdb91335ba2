"""E and var of functions of b given the outcomes seen: the numbers behind every prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgmm.design import Specification, rebuild
from dgmm.estimate import Estimate
from dgmm.families import Observations
from dgmm.likelihood import Effects, Point, Posterior, Predictive
from dgmm.likelihood.bound import WeightedPosterior
from dgmm.model import Model, course, kept, within
from dgmm.model.simulation import check_population
from dgmm.numerics.quadrature import sobol_normal, wide_rule
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.prediction.new_values import tell_beyond

__all__ = [
    "Predictive",
    "average_slope",
    "following",
    "given_history",
    "given_history_by_scale",
    "given_history_each",
    "marginal",
    "marginal_link",
    "mean_subject",
    "normal_effects",
    "one_step",
    "outcomes_seen",
    "population_rule",
    "population_spread",
    "posterior_draws",
    "random_effects",
]

CELLS = 3_000_000
"""Largest number of (node, row) pairs held at once."""


def outcomes_seen(done: Point, spec: Specification, data: Any, what: str = "newdata") -> Panel:
    """The rows of a user's frame whose outcome was observed, read as the family reads them.

    With inputs the others are there too, as rows that count in no density. In a model of several
    outcomes it is the first one that is read; of the others none is seen. ``what`` is what the
    frame is in warnings about its times.
    """
    design = rebuild(spec, data, outcome=True)
    seen = design.observed
    times = torch.from_numpy(design.time[seen])
    tell_beyond(spec.time_name, times, done.observed.rows.time, what)
    every = np.stack([design.y, design.trials, design.weights])
    every[:, seen] = done.model.family.read(*every[:, seen])
    panel = within(done.model, Panel.from_design(design))
    if done.model.residual is not None:
        panel = panel.numbered(design.rows)
    nobody = torch.zeros(0, dtype=torch.long)
    beside = tuple(one.select(nobody).align(panel.ids) for one in done.observed.beside)
    panel = replace(panel, beside=beside)
    if not seen.any():  # of the row that stands for none only the outcome is missing
        stand_in = Observations(*(column[:1] for column in done.observed.rows.data))
        panel = panel.observed_rows()
        return replace(panel, rows=replace(panel.rows, data=stand_in))
    return kept(done.model, panel.with_data(Observations(*torch.from_numpy(every))))


def given_history(
    done: Estimate, theta: Theta, history: Panel, target: Panel, scale: str, seed: int
) -> Predictive:
    """E{h(eta) | y seen} and its variance over b, h = g^-1 ("response") or the identity ("link").

    ``history`` holds the outcomes of the same subjects, in the same order, as ``target``; a subject
    without any has the prior as posterior. Several starts are averaged with weights p(y_i seen)
    under each, ``theta`` standing for the start that is reported.
    """
    return given_history_by_scale(done, theta, history, target, (scale,), seed)[0]


def given_history_by_scale(
    done: Estimate, theta: Theta, history: Panel, target: Panel, scales: Sequence[str], seed: int
) -> list[Predictive]:
    """:func:`given_history` on several scales, of one posterior."""
    history, rows, place = _together(done, history, target)
    every = _given(done, theta, history, rows, scales, seed)
    return [Predictive(one.mean[place], one.variance[place]) for one in every]


def given_history_each(
    done: Estimate, history: Panel, targets: Sequence[Panel], scale: str, seed: int
) -> list[Predictive]:
    """:func:`given_history` of every outcome of a recursion, of one posterior.

    targets: rows of every outcome, of the subjects of ``history`` in the same order.
    """
    panels, places = [], []
    for past, target, seen in zip(history.panels, targets, done.observed.panels, strict=True):
        both, place = replace(past, beside=()).joined(target, seen.rows.data)
        panels.append(both)
        places.append(place)
    every = replace(panels[0], beside=tuple(panels[1:]))
    rows = replace(
        panels[0], masked=False, beside=tuple(replace(p, masked=False) for p in panels[1:])
    )
    posterior = _posterior(done.at(done.theta), every, seed)
    assert isinstance(posterior, WeightedPosterior)
    found = zip(posterior.predictive_each(rows, scale), places, strict=True)
    return [Predictive(one.mean[place], one.variance[place]) for one, place in found]


def following(
    done: Estimate, history: Panel, target: Panel, seed: int
) -> Callable[[Theta, Sequence[str]], list[Predictive]]:
    """:func:`given_history_by_scale` of the reported start alone, at values close to theta-hat."""
    history, rows, place = _together(done, history, target)
    posterior = done.likelihood.on(history).by(seed=seed).posteriors_near(done.theta)

    def at(theta: Theta, scales: Sequence[str]) -> list[Predictive]:
        here = posterior(theta)
        found = [here.predictive(rows, scale) for scale in scales]
        return [Predictive(one.mean[place], one.variance[place]) for one in found]

    return at


def one_step(
    done: Estimate, theta: Theta, history: Panel, target: Panel, scale: str, seed: int
) -> Tensor:
    """E{h(eta) | outcomes of the rows before} of every row of ``target``, (N,)."""
    if not done.model.serial:
        raise ValueError("type='one_step' is for models with vrnn() or dmm() left of a bar")
    history, rows, place = _together(done, history, target)
    return _posterior(done.at(theta), history, seed).one_step(rows, scale).mean[place]


def _together(done: Estimate, history: Panel, target: Panel) -> tuple[Panel, Panel, Tensor | slice]:
    """History and rows to ask about, and which of these are the target's.

    A path has states at the rows of both together.
    """
    if not done.model.serial:
        return history, target, slice(None)
    both, place = history.joined(target, done.observed.rows.data)
    return both, replace(both, masked=False), place


def _given(
    done: Estimate, theta: Theta, history: Panel, target: Panel, scales: Sequence[str], seed: int
) -> list[Predictive]:
    """The same; of a path, at the rows of the history."""
    found = [_posterior(one, history, seed) for one in _starts(done, theta)]
    if len(found) == 1:
        return [found[0].predictive(target, scale) for scale in scales]
    log_density = torch.stack([posterior.log_density() for posterior in found])
    weight = torch.softmax(log_density, 0)[:, target.subject]
    return [_averaged([one.predictive(target, scale) for one in found], weight) for scale in scales]


def _posterior(at: Point, history: Panel, seed: int) -> Posterior:
    return at.likelihood.on(history).by(seed=seed).posterior(at.theta)


def _starts(done: Estimate, theta: Theta) -> tuple[Point, ...]:
    """All starts, ``theta`` standing for the one that is reported."""
    return (done.at(theta), *done.points[1:])


def _averaged(found: Sequence[Predictive], weight: Tensor) -> Predictive:
    """The mixture of predictives of several starts, weight (M, N) or (M, 1)."""
    means = torch.stack([one.mean for one in found])
    variances = torch.stack([one.variance for one in found])
    mean = (weight * means).sum(0)
    return Predictive(mean, (weight * (variances + (means - mean).square())).sum(0))


def posterior_draws(
    done: Estimate,
    history: Panel,
    target: Panel,
    draws: int,
    seed: int,
) -> Tensor:
    """Draws from eta | y at theta-hat for every row of ``target``, (draws, N).

    All rows of a subject share b; of several starts each gives its share of the draws of a subject.
    """
    history, rows, place = _together(done, history, target)
    return _drawn(done, history, rows, draws, seed)[:, place]


def _drawn(done: Estimate, history: Panel, target: Panel, draws: int, seed: int) -> Tensor:
    """The same; of a path, at the rows of the history."""
    generator = torch.Generator().manual_seed(seed + 43)
    found = [_posterior(one, history, seed) for one in done.points]
    drawn = [posterior.draws(target, draws, generator) for posterior in found]
    eta = drawn[0]
    if not bool(eta.isfinite().all()):
        raise FloatingPointError("draws of the linear predictor are not finite")
    if len(drawn) > 1:
        height = torch.stack([posterior.log_density() for posterior in found])
        weight = torch.softmax(height, 0).T
        start = torch.multinomial(weight, draws, replacement=True, generator=generator).T
        for number, other in enumerate(drawn):
            eta = torch.where((start == number)[:, target.subject], other, eta)
    return eta


def mean_subject(done: Estimate, theta: Theta, target: Panel, scale: str) -> Tensor:
    """h(mu1): the random part at its mean, (N,); of the start that is reported."""
    with torch.no_grad():
        ready = done.model.prepare(theta)
        eta = done.model.mu1(ready, target.rows) + course(done.model, ready, target)
        extra = done.model.extra(ready, target.rows)
        return done.model.family.mean(eta, extra) if scale == "response" else eta


def marginal(
    done: Estimate, theta: Theta, target: Panel, scale: str, draws: int = 1024
) -> Predictive:
    """Mean and variance of h(eta) over b ~ N(0, I): the population average, (N,), over all starts.

    When eta is linear in b it is normal, and one dimension of Gauss-Hermite nodes does for all.
    """
    found = [_marginal_of_start(one, target, scale, draws) for one in _starts(done, theta)]
    return _averaged(found, torch.full((len(found), 1), 1 / len(found), dtype=torch.float64))


def marginal_link(done: Estimate, theta: Theta, target: Panel) -> Tensor:
    """The eta at which g^-1(eta) = E g^-1(eta_i): the link of the population average, (N,)."""
    model, wanted = done.model, marginal(done, theta, target, "response").mean
    with torch.no_grad():
        return model.family.predictor(wanted, model.extra(theta, target.rows))


def average_slope(model: Model, theta: Theta, target: Panel, eta: Predictive) -> Tensor:
    """E d g^-1(eta) / d eta of normal eta, (N,)."""
    spread = eta.variance.sqrt()
    e, weight = population_rule(model, spread)
    with torch.no_grad():
        at = eta.mean + e * spread
        slope = model.family.mean_slope(at, model.extra(theta, target.rows))
    return (weight * slope).sum(0)


def normal_effects(model: Model) -> bool:
    """Whether eta is linear in b ~ N(0, I), hence normal over the population."""
    inside = any(target > 0 for target in model.targets)  # of a part
    return all(latent.linear for latent in model.latents) and not inside


@torch.no_grad()
def population_spread(model: Model, ready: Theta, target: Panel) -> Tensor:
    """The standard deviation of eta over b ~ N(0, I), linear in b, (N,)."""
    found = torch.zeros(target.n_rows, dtype=torch.float64)
    for block in target.blocks():
        zero = torch.zeros(len(block.subjects), model.k, dtype=torch.float64)
        own = model.jacobian(ready, zero, block.rows).norm(dim=-1)
        found[block.index[block.mask]] = own[block.mask]
    return found


def population_rule(model: Model, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights of E h(eta) over normal eta with these standard deviations, (M, 1) each.

    Of an outcome on the scale of eta a function is as smooth as its distribution is wide.
    """
    own = model.family.link.name == "identity"
    return wide_rule(0.0 if own else float(spread.max()) if len(spread) else 0.0)


def _marginal_of_start(one: Point, target: Panel, scale: str, draws: int) -> Predictive:
    model, theta = one.model.sized(target), one.theta
    check_population(model)
    mean = torch.zeros(target.n_rows, dtype=torch.float64)
    variance = torch.zeros_like(mean)
    if normal_effects(model):
        with torch.no_grad():
            ready = model.prepare(theta)
            rule = population_rule(model, population_spread(model, ready, target))
            e, weight = (one[..., None] for one in rule)
            centre = course(model, ready, target)
            for block in target.blocks(cells=CELLS // len(e)):
                zero = torch.zeros(len(block.subjects), model.k, dtype=torch.float64)
                spread = model.jacobian(ready, zero, block.rows).norm(dim=-1)
                value = model.mu1(ready, block.rows) + centre[block.index] + e * spread
                if scale == "response":
                    value = model.family.mean(value, model.extra(ready, block.rows))
                first = (weight * value).sum(0)
                second = (weight * (value - first).square()).sum(0)
                mean[block.index[block.mask]] = first[block.mask]
                variance[block.index[block.mask]] = second[block.mask]
        return Predictive(mean, variance)
    b = sobol_normal(model.k, draws, seed=31)[:, None, :]
    with torch.no_grad():
        ready = model.prepare(theta)
        for block in target.blocks(cells=CELLS // draws):
            wide = b.expand(draws, len(block.subjects), model.k)
            at = model.at(ready, wide, block)
            value = model.mu1(ready, block.rows) + model.mu2(at, wide, block.rows)
            if scale == "response":
                value = model.family.mean(value, model.extra(ready, block.rows, wide))
            mean[block.index[block.mask]] = value.mean(0)[block.mask]
            variance[block.index[block.mask]] = value.var(0)[block.mask]
    return Predictive(mean, variance)


def random_effects(done: Point, history: Panel, seed: int) -> Effects:
    """E(b | y) and var(b | y) of the levels of every grouping factor."""
    return _posterior(done, history, seed).effects()
