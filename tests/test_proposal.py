"""Places of the nodes of half-seen subjects: log p(y) and b | y against a grid."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from toys import OnGrid, build, frame, on_grid, random_theta, waves_seen_in_part, whole

from dgmm.likelihood import Frozen, Importance, NodeRule, Quadrature, freeze, places
from dgmm.likelihood.posterior import NodePosterior
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.posterior.modes import find_modes
from dgmm.posterior.proposal import Places, find_places


@cache
def first() -> Frozen:
    return frozen_at(Importance(64), 3)


@cache
def made() -> tuple[Model, Theta, Panel, OnGrid]:
    model, theta, panel = waves_seen_in_part()
    return model, theta, panel, on_grid(model, theta, panel)


def frozen_at(rule: NodeRule, seed: int, start: torch.Tensor | Places | None = None) -> Frozen:
    model, theta, panel, _ = made()
    return freeze(model, theta, panel, rule, np.random.default_rng(seed), start)


def test_log_likelihoods_of_half_seen_subjects_are_those_of_the_grid() -> None:
    model, theta, panel, grid = made()
    highest = find_modes(model, theta, whole(panel)).mode  # the one place that nodes once were at
    each, alone = (
        torch.stack([frozen_at(Importance(512), s, start).per_subject(theta) for s in range(8)])
        - grid.log_likelihood
        for start in (places(first()), highest)
    )
    rms, rms_alone = each.square().mean(0).sqrt(), alone.square().mean(0).sqrt()
    assert float(rms[:2].max()) < 0.015
    assert float(rms[2]) < 0.1  # two modes, one density over both
    assert bool((rms_alone[1:] > 3 * rms[1:]).all())
    p = each.exp()  # relative to the truth: the estimator is unbiased
    assert bool(((p.mean(0) - 1).abs() < 4 * p.std(0) / 8**0.5).all())


def test_quadrature_around_moments_is_that_of_the_grid() -> None:
    model, theta, panel, grid = made()
    start = places(first())
    highest = find_modes(model, theta, whole(panel)).mode
    off, alone = (
        (frozen_at(Quadrature(11), 0, start).per_subject(theta) - grid.log_likelihood).abs()
        for start in (start, highest)
    )
    assert float(off[:2].max()) < 0.005
    assert float(off[2]) < 0.3  # two modes
    assert float(alone[1]) > 3 * float(off[1])


def test_moments_of_half_seen_subjects_are_those_of_the_grid() -> None:
    _, theta, _, grid = made()
    found = NodePosterior(frozen_at(Importance(4096), 1, places(first())), theta).effects()
    torch.testing.assert_close(found.mean[0], grid.mean, atol=0.03, rtol=0)
    torch.testing.assert_close(found.covariance[0], grid.covariance, atol=0.06, rtol=0)


def test_nodes_are_where_the_moments_are_unless_a_posterior_is_normal() -> None:
    model, theta, panel, grid = made()
    mode, found = find_modes(model, theta, whole(panel)), find_places(model, theta, whole(panel))
    assert found.follows.tolist() == [True, False, False]
    torch.testing.assert_close(found.placed.mode[0], mode.mode[0], atol=1e-5, rtol=0)
    sd = grid.covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    assert bool(((found.placed.mode - grid.mean).abs() < 0.15 * sd)[1:].all())
    assert bool(((mode.mode - grid.mean).abs() > 0.15 * sd)[1:].any(1).all())
    ratio = found.placed.covariance.diagonal(dim1=-2, dim2=-1).sqrt() / sd
    assert bool(((ratio > 0.85) & (ratio < 1.15)).all())


def test_models_that_are_linear_in_b_have_their_modes() -> None:
    model, panel = build("z ~ x + (t | id)", frame(15, 6, missing=0.2), "bernoulli")
    block, theta = whole(panel.observed_rows()), random_theta(model)
    found, known = find_places(model, theta, block), find_modes(model, theta, block)
    for ours, own in zip(found.placed, known, strict=True):
        torch.testing.assert_close(ours, own)


@pytest.mark.parametrize("rule", [Importance(8), Importance(64), Quadrature(7)])
def test_the_gradient_is_that_of_central_differences(rule: NodeRule) -> None:
    model, theta, _, _ = made()
    frozen, packing = frozen_at(rule, 3, places(first())), model.packing
    assert sorted(piece.held for piece in frozen.pieces) == [False, True]
    g = torch.Generator().manual_seed(1)
    x = packing.pack(theta)
    x = x + 0.01 * torch.randn(len(x), generator=g, dtype=torch.float64)  # off the anchor
    gradient = packing.pack(frozen.value_and_gradient(packing.unpack(x))[1])
    for _ in range(4):
        u = torch.randn(len(x), generator=g, dtype=torch.float64)
        up, down = (frozen.value(packing.unpack(x + s * 1e-5 * u)) for s in (1, -1))
        assert float(gradient @ u) == pytest.approx((up - down) / 2e-5, rel=1e-5)


def test_held_nodes_have_the_scores_of_their_gradient() -> None:
    """Fisher's identity: with nodes that stay, the weighted mean is the gradient itself."""
    model, theta, _, _ = made()
    frozen = frozen_at(Importance(64), 3, places(first()))
    held = next(piece for piece in frozen.pieces if piece.held)
    only = Frozen(model, frozen.rule, (held,), frozen.n)
    gradient = model.packing.pack(only.value_and_gradient(theta)[1])
    torch.testing.assert_close(only.scores(theta).sum(0), gradient, atol=1e-9, rtol=1e-9)


def test_modes_move_with_theta_and_moments_stay() -> None:
    model, theta, panel, _ = made()
    moved = {**theta, "latent1.shift": 1.01 * theta["latent1.shift"]}
    there = first().moved(moved)
    before, after = places(first()), places(there)
    mode = find_modes(model, moved, whole(panel), before.anchor.mode).mode
    torch.testing.assert_close(after.anchor.mode[0], mode[0], atol=1e-6, rtol=0)
    assert torch.equal(after.anchor.mode[1:], before.anchor.mode[1:])


def test_places_of_parts_are_put_together_in_the_order_of_the_subjects() -> None:
    found = places(first())
    one, two = torch.tensor([2, 0]), torch.tensor([1])
    again = Places.of_all([(one, found.at(one)), (two, found.at(two))])
    assert torch.equal(again.anchor.mode, found.anchor.mode)
    assert torch.equal(again.follows, found.follows)
    assert torch.equal(again.shape, found.shape)
