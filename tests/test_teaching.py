"""Encoders taught on simulated subjects: what is simulated, what is learnt, how far it is off."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from toys import build, encoder_for, frame, generator, on_grid, random_theta, waves_seen_in_part
from toys import whole as all_of

from dgmm.encoders import Mixed
from dgmm.encoders.mixed import heights
from dgmm.estimate.amortised import skip_matrix, tied_encoder
from dgmm.likelihood.gaussian import per_subject
from dgmm.networks import Weights
from dgmm.variational import teaching
from dgmm.variational.elbo import evaluate
from dgmm.variational.teaching import (
    OWN,
    PREFIX,
    _divergence,
    _Pupil,
    can_mix,
    examined,
    pupils,
    teach_mixture,
    teach_normal,
)


def linear(text: str = "y ~ x + t + (t | id)", missing: float = 0.3):  # type: ignore[no-untyped-def]
    model, panel = build(text, frame(30, 6, seed=3, missing=missing), unit=1.0)
    theta = random_theta(model, 2)
    return model, panel, theta, encoder_for(model, panel, "sites")


def test_simulated_subjects_have_the_density_of_the_model() -> None:
    """The mean of log p(y seen) is minus the entropy of a normal density with the rows seen."""
    model, panel, theta, _ = linear()
    ready = model.prepare(theta)
    gap = []
    for b, block in islice(pupils(model, theta, panel, generator(1)), 2):
        e = block.rows.data.y - model.mu1(ready, block.rows) - model.mu2(ready, b, block.rows)
        gap.append((e / torch.exp(theta["extra"][0]))[block.mask])
    e = torch.cat(gap)
    assert abs(float(e.mean())) < 4 / len(e) ** 0.5
    assert abs(float(e.square().mean()) - 1) < 4 * (2 / len(e)) ** 0.5


def test_rows_are_seen_in_the_shares_that_the_patterns_have() -> None:
    model, panel, theta, _ = linear()
    _, block = next(pupils(model, theta, panel, generator(2)))
    n, J = len(block.subjects), 6
    share = block.mask.double().mean(1)
    own = float(panel.observed.double().mean())
    expected = OWN * own + (1 - OWN) * 0.5
    assert abs(float(share.mean()) - expected) < 4 * float(share.std()) / n**0.5
    nothing = float((share == 0).double().mean())  # of a prefix, and of rows seen at random
    chance = PREFIX / (J + 1) + (1 - OWN - PREFIX) / (J + 1)
    assert abs(nothing - chance) < 4 * (chance / n) ** 0.5
    ordered = block.mask[:, 1:] <= block.mask[:, :-1]
    assert PREFIX < float(ordered.all(1).double().mean()) < 1


def test_two_outcomes_are_seen_up_to_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teaching, "OWN", 0.0)
    monkeypatch.setattr(teaching, "PREFIX", 1.0)
    _, panel, _, _ = linear(missing=0.0)
    late = replace(panel, rows=replace(panel.rows, time=panel.rows.time + 0.5))
    block = replace(panel, beside=(late,)).block(torch.arange(30))
    one, two = teaching.thinned(block, [panel.observed, late.observed], generator(4)).blocks
    last = torch.where(one.mask, one.rows.time, -torch.inf).amax(1, keepdim=True)
    assert torch.equal(one.mask, one.rows.time <= last)
    assert torch.equal(two.mask, two.rows.time <= last)
    assert set(one.mask.sum(1).tolist()) == set(range(7))


def test_the_divergence_and_its_slope_vanish_at_the_posterior() -> None:
    """Nodes anywhere, their weights those of q itself."""
    model, _, theta, encoder = linear()
    mixed = Mixed(encoder, components=2, hidden=4)
    g = generator(3)
    phi = mixed.above(mixed.base.tied(skip_matrix(model, theta), g), g)
    phi = {n: w.requires_grad_(n.startswith("head.")) for n, w in phi.items()}
    inputs = torch.randn(5, mixed.width, generator=g, dtype=torch.float64)
    monomials = torch.randn(5, 20, 6, generator=g, dtype=torch.float64)
    base = torch.randn(1, 20, generator=g, dtype=torch.float64)
    log_q = heights(*mixed.parts(phi, inputs), monomials).detach()
    pupil = _Pupil(inputs, monomials, base, torch.log_softmax(log_q - base, 1))
    value = _divergence(mixed, phi, pupil).sum()
    assert abs(float(value.detach())) < 1e-12
    slopes = torch.autograd.grad(value, [w for w in phi.values() if w.requires_grad])
    assert max(float(slope.abs().max()) for slope in slopes) < 1e-12


def test_the_mixture_of_a_linear_gaussian_model_has_nothing_to_learn() -> None:
    model, panel, theta, encoder = linear()
    g = generator(1)
    mixed = Mixed(encoder)
    phi = mixed.above(mixed.base.tied(skip_matrix(model, theta), g), g)
    phi, steps = teach_mixture(model, mixed, theta, phi, panel, g, 400)
    assert steps < 400
    lesson = examined(model, mixed, theta, phi, panel, g, steps)
    assert lesson.gap < 2e-3
    observed = panel.observed_rows()
    bound = evaluate(model, mixed, theta, phi, observed, 1)
    gap = per_subject(model, theta, observed) - bound.elbo
    assert abs(float(gap.mean())) < 2e-3 + 4 * bound.mc_error / panel.n


def test_bends_and_second_modes_are_learnt() -> None:
    """Waves seen whole, in part and once: KL(p || q) over a grid, beside that of a normal q."""
    model, theta, panel = waves_seen_in_part()
    g = generator(1)
    encoder, phi = tied_encoder(model, theta, panel, "sites", g)
    phi = teach_normal(model, encoder, theta, phi, panel, g, 100)
    mixed = Mixed(encoder)
    phi, _ = teach_mixture(model, mixed, theta, mixed.above(phi, g), panel, g, 400)
    silent = {n: torch.zeros_like(w) if n.startswith("head.A3") else w for n, w in phi.items()}
    grid = on_grid(model, theta, panel)
    height = grid.height.flatten(1)
    weight = torch.softmax(height, 1)
    step = torch.log(grid.axis[1] - grid.axis[0])
    b, block = torch.cartesian_prod(grid.axis, grid.axis), all_of(panel)

    def divergence(own: Weights) -> torch.Tensor:
        q = mixed.posterior(own, model, model.prepare(theta), block)
        gap = b.T - q.centre[..., None]
        z = torch.linalg.solve_triangular(q.root, gap, upper=True)
        log_q = (q.log_density(z) - q.log_det_root).T
        log_p = torch.log(weight) - 2 * step
        return torch.where(weight > 1e-12, weight * (log_p - log_q), 0.0).sum(1)

    taught, normal = divergence(phi), divergence(silent)
    assert bool((taught > 0).all())
    assert bool((taught < 0.5 * normal)[1:].all())
    assert float(taught.mean()) < 0.3 * float(normal.mean())


def test_whom_a_mixture_is_for() -> None:
    model, _, _, encoder = linear()
    assert can_mix(model, encoder)
    assert not can_mix(model, replace(encoder, covariance="diagonal"))
    paths, panel = build("y ~ x + (ou(t) | id)", frame(10, 4, seed=1), unit=1.0)
    assert not can_mix(paths.sized(panel), encoder)


def test_a_normal_encoder_learns_the_mean_of_b_given_y() -> None:
    """From a skeleton that knows nothing of the decoder: the error of its means goes down."""
    model, panel, theta, encoder = linear(missing=0.0)
    g = generator(2)
    phi, ready = encoder.initial(g), model.prepare(theta)
    block = all_of(panel)
    known = encoder.posterior(encoder.tied(skip_matrix(model, theta), g), model, ready, block)
    before = encoder.posterior(phi, model, ready, block)
    learnt = teach_normal(model, encoder, theta, phi, panel, g, 200)
    after = encoder.posterior(learnt, model, ready, block)
    errors = [float((q.mean - known.mean).square().mean()) for q in (before, after)]
    assert errors[1] < 0.1 * errors[0]
    assert np.isfinite(errors).all()
