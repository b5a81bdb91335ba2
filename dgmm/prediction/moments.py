"""E and var of functions of b given the outcomes seen: the numbers behind every prediction."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.polynomial.hermite_e import hermegauss
from torch import Tensor

from dgmm.design import Specification, rebuild
from dgmm.estimate import Estimate, Member
from dgmm.likelihood import Frozen, Importance, Laplace, freeze
from dgmm.likelihood.crossed_laplace import linear_predictor
from dgmm.model import Model
from dgmm.numerics.quadrature import gauss_hermite, sobol_normal
from dgmm.panel import Block, Panel
from dgmm.parameters import Theta
from dgmm.posterior.modes import find_modes, moments

__all__ = [
    "Predictive",
    "given_history",
    "marginal",
    "mean_subject",
    "outcomes_seen",
    "posterior_draws",
    "random_effects",
    "subject_keys",
]

PREDICTION_DRAWS = 256
POPULATION_NODES = 61
POSTERIOR_POINTS = 20


class Predictive(NamedTuple):
    """Per row of the target panel: mean and variance over b given the history, (N,)."""

    mean: Tensor
    variance: Tensor


def subject_keys(panel: Panel) -> list[int]:
    """A number for every id, so that predictions of a subject do not depend on the other rows."""
    return [zlib.crc32(str(one).encode()) for one in panel.ids.tolist()]


def outcomes_seen(done: Estimate, spec: Specification, data: Any) -> Panel:
    """The rows of a user's frame whose outcome was observed, read as the family reads them."""
    design = rebuild(spec, data, outcome=True)
    seen = design.observed
    y, trials, weights = done.model.family.read(
        design.y[seen], design.trials[seen], design.weights[seen]
    )
    panel = Panel.from_design(design).observed_rows()
    read = panel.rows.data._replace(
        y=torch.from_numpy(y), trials=torch.from_numpy(trials), weights=torch.from_numpy(weights)
    )
    return panel.with_data(read)


def _posterior(done: Estimate, one: Member, history: Panel, seed: int) -> Frozen:
    """Nodes around the modes of b | y, by the rule of the fit (fewer draws if it samples)."""
    rule = done.rule if not isinstance(done.rule, Importance) else Importance(PREDICTION_DRAWS)
    assert rule is not None
    rng = np.random.default_rng([seed, 37])
    return freeze(one.model, one.theta, history, rule, rng, keys=subject_keys(history))


def _nodes(
    done: Estimate, one: Member, ready: Theta, history: Panel, target: Panel, seed: int
) -> Iterator[tuple[Block, Tensor, Tensor, Tensor]]:
    """Per block of ``target``: nodes b of b | y, their log weights (M, n), and eta (M, n, J)."""
    model = one.model.sized(history)
    for block, b, terms in _posterior(done, one, history, seed).weighted_nodes(ready):
        rows = target.block(block.subjects)
        with torch.no_grad():
            value = model.mu1(ready, rows.rows) + model.mu2(ready, b, rows.rows)
        yield rows, b, terms, value


def given_history(
    done: Estimate, theta: Theta, history: Panel, target: Panel, scale: str, seed: int
) -> Predictive:
    """E{h(eta) | y seen} and its variance over b, h = g^-1 ("response") or the identity ("link").

    ``history`` holds the observed outcomes of the same subjects, in the same order, as ``target``;
    a subject without any has the prior as posterior. Several starts are averaged with weights
    p(y_i seen) under each, ``theta`` standing for the start that is reported.
    """
    if done.panel.crossing is not None:
        return _given_levels(done, theta, target, scale)
    if done.model.serial and not history.masked:
        both, place = history.joined(target, done.observed.rows.data)
        every = given_history(done, theta, both, replace(both, masked=False), scale, seed)
        return Predictive(every.mean[place], every.variance[place])
    found = [_of_start(done, one, history, target, scale, seed) for one in _starts(done, theta)]
    if len(found) == 1:
        return found[0][0]
    log_density = torch.stack([height for _, height in found])
    weight = torch.softmax(log_density, 0)[:, target.subject]
    return _averaged([predictive for predictive, _ in found], weight)


def _starts(done: Estimate, theta: Theta) -> tuple[Member, ...]:
    """All starts, ``theta`` standing for the one that is reported."""
    return (Member(done.model, theta), *done.others)


def _averaged(found: Sequence[Predictive], weight: Tensor) -> Predictive:
    """The mixture of predictives of several starts, weight (M, N) or (M, 1)."""
    means = torch.stack([one.mean for one in found])
    variances = torch.stack([one.variance for one in found])
    mean = (weight * means).sum(0)
    return Predictive(mean, (weight * (variances + (means - mean).square())).sum(0))


def _of_start(
    done: Estimate, one: Member, history: Panel, target: Panel, scale: str, seed: int
) -> tuple[Predictive, Tensor]:
    """:func:`given_history` of one start, and log p(y_i seen) under it, (n,) (0 when exact)."""
    model, theta = one.model.sized(history), one.theta
    ready = model.prepare({name: value.detach() for name, value in theta.items()})
    mean, variance = torch.zeros(2, target.n_rows, dtype=torch.float64)
    height = torch.zeros(history.n, dtype=torch.float64)
    if _is_normal(done):
        for block in history.blocks():
            anchor = find_modes(model, theta, block)
            rows = target.block(block.subjects)
            with torch.no_grad():
                eta = model.mu1(ready, rows.rows) + model.mu2(ready, anchor.mode, rows.rows)
                J = model.jacobian(ready, anchor.mode, rows.rows)
                spread = (J @ anchor.root).square().sum(-1)
            mean[rows.index[rows.mask]] = eta[rows.mask]
            variance[rows.index[rows.mask]] = spread[rows.mask]
        scale = "link" if done.likelihood == "exact" else scale  # then they are the same
        return _on_scale(model, theta, target, mean, variance, scale), height
    for rows, b, terms, value in _nodes(done, one, ready, history, target, seed):
        with torch.no_grad():
            height[rows.subjects] = torch.logsumexp(terms, 0)
            weight = torch.softmax(terms, 0)
            if scale == "response":
                value = model.family.mean(value, model.extra(ready, rows.rows, b))
            first = torch.einsum("mn,mnj->nj", weight, value)
            second = torch.einsum("mn,mnj->nj", weight, (value - first).square())
        mean[rows.index[rows.mask]] = first[rows.mask]
        variance[rows.index[rows.mask]] = second[rows.mask]
    return Predictive(mean, variance), height


def posterior_draws(
    done: Estimate,
    history: Panel,
    target: Panel,
    draws: int,
    seed: int,
) -> Tensor:
    """Draws from eta | y at theta-hat for every row of ``target``, (draws, N).

    Nodes of the posterior are drawn by their weights, the same for all rows of a subject, so skew
    and several modes stay what they are; of several starts each gives its share of the draws of a
    subject. For Gaussian linear models eta | y is normal.
    """
    if done.model.serial and not history.masked and not _is_normal(done):
        both, place = history.joined(target, done.observed.rows.data)
        return posterior_draws(done, both, replace(both, masked=False), draws, seed)[:, place]
    generator = torch.Generator().manual_seed(seed + 43)
    if _is_normal(done) or done.panel.crossing is not None:
        found = given_history(done, done.theta, history, target, "link", seed)
        noise = torch.randn(draws, target.n_rows, generator=generator, dtype=torch.float64)
        return found.mean + found.variance.sqrt() * noise
    drawn = [
        _draws_of_start(done, one, history, target, draws, seed, generator) for one in done.members
    ]
    eta = drawn[0][0]
    if len(drawn) > 1:
        weight = torch.softmax(torch.stack([height for _, height in drawn]), 0).T
        start = torch.multinomial(weight, draws, replacement=True, generator=generator).T
        for number, (other, _) in enumerate(drawn):
            eta = torch.where((start == number)[:, target.subject], other, eta)
    return eta


def _draws_of_start(
    done: Estimate,
    one: Member,
    history: Panel,
    target: Panel,
    draws: int,
    seed: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Draws from eta | y under one start, (draws, N), and its log p(y_i seen), (n,)."""
    with torch.no_grad():
        ready = one.model.prepare({name: value.detach() for name, value in one.theta.items()})
    eta = torch.zeros(draws, target.n_rows, dtype=torch.float64)
    height = torch.zeros(history.n, dtype=torch.float64)
    for rows, _, terms, value in _nodes(done, one, ready, history, target, seed):
        height[rows.subjects] = torch.logsumexp(terms, 0)
        weight = torch.softmax(terms, 0).T
        chosen = torch.multinomial(weight, draws, replacement=True, generator=generator).T
        drawn = value.gather(0, chosen[..., None].expand(-1, -1, value.shape[-1]))
        eta[:, rows.index[rows.mask]] = drawn[:, rows.mask]
    return eta, height


def _given_levels(done: Estimate, theta: Theta, target: Panel, scale: str) -> Predictive:
    """The same with several grouping factors: eta given y is normal (exactly, or by Laplace)."""
    eta, variance = linear_predictor(done.model, theta, done.observed, target)
    return _on_scale(done.model, theta, target, eta, variance, scale)


def _is_normal(done: Estimate) -> bool:
    """Whether eta | y is normal: exactly, or for paths under Laplace's approximation."""
    return done.likelihood == "exact" or (done.model.serial and isinstance(done.rule, Laplace))


def _on_scale(
    model: Model, theta: Theta, target: Panel, eta: Tensor, variance: Tensor, scale: str
) -> Predictive:
    """Mean and variance of h(eta) for a normal eta."""
    if scale == "link":
        return Predictive(eta, variance)
    points, weight = (torch.from_numpy(x)[:, None] for x in hermegauss(POSTERIOR_POINTS))
    weight = weight / weight.sum()
    extra = model.extra(theta, target.rows)
    value = model.family.mean(eta + variance.sqrt() * points, extra)
    first = (weight * value).sum(0)
    return Predictive(first, (weight * (value - first).square()).sum(0))


def mean_subject(done: Estimate, theta: Theta, target: Panel, scale: str) -> Tensor:
    """h(mu1): the random part at its mean zero, (N,); of the start that is reported."""
    with torch.no_grad():
        ready = done.model.prepare(theta)
        eta = done.model.mu1(ready, target.rows)
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


def _marginal_of_start(one: Member, target: Panel, scale: str, draws: int) -> Predictive:
    model, theta = one.model.sized(target), one.theta
    mean = torch.zeros(target.n_rows, dtype=torch.float64)
    variance = torch.zeros_like(mean)
    if all(latent.linear for latent in model.latents) and not any(model.targets):
        nodes = gauss_hermite(1, POPULATION_NODES)
        weight = torch.exp(nodes.log_weight - 0.5 * nodes.e[..., 0].square())
        weight = (weight / weight.sum())[..., None]
        with torch.no_grad():
            ready = model.prepare(theta)
            for block in target.blocks(cells=3_000_000 // POPULATION_NODES):
                zero = torch.zeros(len(block.subjects), model.k, dtype=torch.float64)
                spread = model.jacobian(ready, zero, block.rows).norm(dim=-1)
                value = model.mu1(ready, block.rows) + nodes.e * spread
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
        for block in target.blocks(cells=3_000_000 // draws):
            wide = b.expand(draws, len(block.subjects), model.k)
            value = model.mu1(ready, block.rows) + model.mu2(ready, wide, block.rows)
            if scale == "response":
                value = model.family.mean(value, model.extra(ready, block.rows, wide))
            mean[block.index[block.mask]] = value.mean(0)[block.mask]
            variance[block.index[block.mask]] = value.var(0)[block.mask]
    return Predictive(mean, variance)


def random_effects(done: Estimate, history: Panel, seed: int) -> tuple[Tensor, Tensor]:
    """E(b | y) and var(b | y), (n, k) and (n, k, k)."""
    model = done.model
    mean = torch.zeros(history.n, model.k, dtype=torch.float64)
    covariance = torch.zeros(history.n, model.k, model.k, dtype=torch.float64)
    if _is_normal(done):
        for block in history.blocks():
            anchor = find_modes(model, done.theta, block)
            mean[block.subjects] = anchor.mode
            covariance[block.subjects] = anchor.covariance
        return mean, covariance
    frozen = _posterior(done, done.members[0], history, seed)
    for block, b, terms in frozen.weighted_nodes(model.prepare(done.theta)):
        found = moments(b, terms)
        mean[block.subjects] = found.mean
        covariance[block.subjects] = found.covariance
    return mean, covariance
