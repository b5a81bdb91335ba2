"""Components of the nodes of half-seen subjects: log p(y) and b | y against a grid."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from toys import OnGrid, build, frame, on_grid, random_theta, waves_seen_in_part, whole

from dgmm.likelihood import Frozen, Importance, freeze, modes
from dgmm.likelihood.posterior import NodePosterior
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.posterior.modes import find_modes
from dgmm.posterior.proposal import find_components
from dgmm.posterior.several import Components


@cache
def first() -> Frozen:
    return frozen_at(64, 3)


@cache
def made() -> tuple[Model, Theta, Panel, OnGrid]:
    model, theta, panel = waves_seen_in_part()
    return model, theta, panel, on_grid(model, theta, panel)


def frozen_at(draws: int, seed: int, start: torch.Tensor | Components | None = None) -> Frozen:
    model, theta, panel, _ = made()
    return freeze(model, theta, panel, Importance(draws), np.random.default_rng(seed), start)


def test_log_likelihoods_of_half_seen_subjects_are_those_of_the_grid() -> None:
    model, theta, panel, grid = made()
    highest = find_modes(model, theta, whole(panel)).mode  # the one place that nodes once were at
    each, alone = (
        torch.stack([frozen_at(512, s, start).per_subject(theta) for s in range(8)])
        - grid.log_likelihood
        for start in (modes(first()), highest)
    )
    rms, rms_alone = each.square().mean(0).sqrt(), alone.square().mean(0).sqrt()
    assert float(rms.max()) < 0.015
    assert float(rms_alone[1:].min()) > 10 * float(rms.max())
    p = each.exp()  # relative to the truth: the estimator is unbiased
    assert bool(((p.mean(0) - 1).abs() < 4 * p.std(0) / 8**0.5).all())


def test_moments_of_half_seen_subjects_are_those_of_the_grid() -> None:
    _, theta, _, grid = made()
    found = NodePosterior(frozen_at(512, 1, modes(first())), theta).effects()
    torch.testing.assert_close(found.mean[0], grid.mean, atol=0.03, rtol=0)
    torch.testing.assert_close(found.covariance[0], grid.covariance, atol=0.06, rtol=0)


def test_only_posteriors_that_are_not_normal_get_more_than_their_modes() -> None:
    model, theta, panel, _ = made()
    found = find_components(model, theta, whole(panel))
    assert found.modes.tolist() == [1, 1, 2]
    assert found.number.tolist() == [1, 16, 2]
    assert not found.anchor.slope[0].any()
    assert bool(found.anchor.slope[1:, 1].norm(dim=-1).gt(0).all())


def test_models_with_one_place_for_a_mode_have_one_component() -> None:
    model, panel = build("y ~ x + (dnn(t, hidden=(4,)) | id)", frame(15, 6, missing=0.2))
    block, theta = whole(panel.observed_rows()), random_theta(model)
    found, known = find_components(model, theta, block), find_modes(model, theta, block)
    assert found.number.tolist() == [1] * 15
    for ours, own in zip(found.anchor, known, strict=True):
        assert torch.equal(ours[0], own)


@pytest.mark.parametrize("draws", [8, 64])
def test_the_gradient_of_several_components_is_that_of_central_differences(draws: int) -> None:
    model, theta, _, _ = made()
    frozen, packing = frozen_at(draws, 3, modes(first())), model.packing
    assert sorted(len(piece.counts) for piece in frozen.pieces) == [1, 2, 16]
    g = torch.Generator().manual_seed(1)
    x = packing.pack(theta)
    x = x + 0.01 * torch.randn(len(x), generator=g, dtype=torch.float64)  # off the anchor
    gradient = packing.pack(frozen.value_and_gradient(packing.unpack(x))[1])
    for _ in range(4):
        u = torch.randn(len(x), generator=g, dtype=torch.float64)
        up, down = (frozen.value(packing.unpack(x + s * 1e-5 * u)) for s in (1, -1))
        assert float(gradient @ u) == pytest.approx((up - down) / 2e-5, rel=1e-5)


def test_modes_are_a_start_that_keeps_the_components() -> None:
    model, theta, panel, _ = made()
    again = frozen_at(64, 3, modes(first()))
    torch.testing.assert_close(again.per_subject(theta), first().per_subject(theta))
    moved = {**theta, "latent1.shift": 1.01 * theta["latent1.shift"]}
    rng = np.random.default_rng(3)
    there = freeze(model, moved, panel, Importance(64), rng, modes(first()))
    torch.testing.assert_close(there.per_subject(moved), first().moved(moved).per_subject(moved))
