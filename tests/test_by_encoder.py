"""Importance sampling from an encoder: right whatever q is, beside closed forms and grids."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from toys import (
    build,
    encoder_for,
    frame,
    generator,
    linear_gaussian,
    on_grid,
    random_theta,
    waves_seen_in_part,
)

from dgmm.encoders import Mixed
from dgmm.estimate.amortised import skip_matrix
from dgmm.likelihood import Integration, Quadrature, choose, freeze
from dgmm.model import Model
from dgmm.networks import Weights
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.variational.by_encoder import ByEncoder, EncoderPosterior


def made(
    loud: float, text: str = "y ~ x + t + (t | id)", family: str = "gaussian", **how: float
) -> tuple[Model, Panel, Theta, Mixed, Weights]:
    """A model and an encoder whose network is random, ``loud`` times as it is begun with."""
    data = frame(25, 6, seed=3, **how)  # type: ignore[arg-type]
    if family != "gaussian":
        data["y"] = (data["y"] > data["y"].median()).astype(float).where(data["y"].notna())
    model, panel = build(text, data, family=family, unit=1.5 if family == "gaussian" else 1.0)
    theta = random_theta(model, 2)
    mixed, g = Mixed(encoder_for(model, panel, "sites"), components=3, hidden=8), generator(4)
    phi = mixed.above(mixed.base.tied(skip_matrix(model, theta), g), g)
    return model, panel, theta, mixed, {**phi, "head.A3": loud * phi["head.A3"]}


def likelihood(case: tuple[Model, Panel, Theta, Mixed, Weights], seed: int = 1) -> ByEncoder:
    model, panel, _, mixed, phi = case
    word = choose(model, panel, "importance", Integration(seed))
    return ByEncoder.of_fit(word, mixed, phi)


@pytest.mark.parametrize("loud", [0.0, 3.0, 20.0])
def test_log_likelihoods_are_exact_but_for_their_error(loud: float) -> None:
    case = made(loud, missing=0.3)
    model, panel, theta, *_ = case
    known = linear_gaussian(model, theta, panel.observed_rows())[2]
    each = likelihood(case).each(theta)
    z = (each.value.numpy() - known) / each.error.numpy()
    assert np.abs(z).max() < 4
    assert abs(z.mean()) < 4 / 25**0.5
    assert abs(float(each.value.sum()) - known.sum()) < 4 * each.total_error


def test_the_error_of_an_exact_q_is_that_of_its_defence() -> None:
    """Three draws of sixteen are not q's: the effective share is at least 13 / 16."""
    case = made(0.0, missing=0.3)
    _, panel, theta, mixed, phi = case
    found = EncoderPosterior(case[0], theta, panel.observed_rows(), mixed, phi, 1)
    for one in found.drawn():
        assert float(one.effective.min()) > 0.95 * 13 / 16 * len(one.b)
        assert not bool(one.refined.any())


def test_moments_are_those_of_the_posterior() -> None:
    case = made(3.0, missing=0.3)
    model, panel, theta, *_ = case
    mean, covariance, _ = linear_gaussian(model, theta, panel.observed_rows())
    found = likelihood(case).posterior(theta).effects()
    spread = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    assert (np.abs(found.mean[0].numpy() - mean) / spread).max() < 4 / 80**0.5
    ratio = np.diagonal(found.covariance[0].numpy(), axis1=1, axis2=2) / spread**2
    assert np.abs(ratio - 1).max() < 4 * (2 / 80) ** 0.5
    assert abs(ratio.mean() - 1) < 0.05


@pytest.mark.parametrize("loud", [0.0, 10.0])
def test_binary_outcomes_beside_quadrature(loud: float) -> None:
    case = made(loud, family="bernoulli", missing=0.2)
    model, panel, theta, *_ = case
    rule = Quadrature(41)
    seen = panel.observed_rows()
    known = freeze(model, theta, seen, rule, np.random.default_rng(0)).per_subject(theta)
    each = likelihood(case).each(theta)
    assert float(((each.value - known) / each.error).abs().max()) < 4
    exact = freeze(model, theta, seen, rule, np.random.default_rng(0))
    from dgmm.likelihood.posterior import NodePosterior

    for scale in ("link", "response"):
        ours = likelihood(case).posterior(theta).predictive(panel, scale)
        theirs = NodePosterior(exact, theta).predictive(panel, scale)
        z = (ours.mean - theirs.mean) / (theirs.variance / 80).sqrt()
        assert float(z.abs().max()) < 4


@cache
def waves() -> tuple[Model, Theta, Panel, Mixed, Weights]:
    model, theta, panel = waves_seen_in_part()
    mixed, g = Mixed(encoder_for(model, panel, "sites"), components=2, hidden=4), generator(4)
    phi = mixed.above(mixed.base.tied(skip_matrix(model, theta), g), g)
    return model, theta, panel, mixed, {**phi, "head.A3": 0 * phi["head.A3"]}


def test_bends_and_second_modes_that_q_knows_nothing_of() -> None:
    """A normal q around one place: the prior among the draws finds the other."""
    model, theta, panel, mixed, phi = waves()
    known = on_grid(model, theta, panel)
    values = []
    for seed in range(8):
        found = EncoderPosterior(model, theta, panel, mixed, phi, seed)
        value = torch.zeros(3, dtype=torch.float64)
        for one in found.drawn():
            value[one.block.subjects] = torch.logsumexp(one.log_weight, 0)
        values.append(value - known.log_likelihood)
    p = torch.stack(values).exp()  # relative to the truth: the estimator is unbiased
    assert bool(((p.mean(0) - 1).abs() < 4 * p.std(0) / 8**0.5).all())
    assert float((p.mean(0) - 1).abs().max()) < 0.2


def test_a_q_in_the_wrong_place_is_found_out_and_replaced() -> None:
    """Shifts of four standard deviations: k > 0.7, and the log-likelihood of refined draws."""
    model, panel, theta, mixed, phi = made(0.0, missing=0.3)
    each = 1 + model.k + model.k * (model.k + 1) // 2
    shift = torch.zeros(mixed.components, each, dtype=torch.float64)
    shift[:, 1:3], shift[:, 3:5] = 30.0, 10.0  # far away, and much narrower
    wrong = {**phi, "head.a3": shift.flatten()}
    seen = panel.observed_rows()
    known = linear_gaussian(model, theta, seen)[2]
    refined = 0
    for one in EncoderPosterior(model, theta, seen, mixed, wrong, 1).drawn():
        error = (1 / one.effective - 1 / len(one.b)).clamp(min=0).sqrt().numpy()
        value = torch.logsumexp(one.log_weight, 0).numpy()
        assert np.abs((value - known[one.block.subjects]) / error).max() < 4
        assert torch.equal(one.refined, one.shape > 0.7)
        refined += int(one.refined.sum())
    assert refined > 0


def test_draws_of_a_subject_do_not_depend_on_the_others() -> None:
    case = made(3.0)
    model, panel, theta, mixed, phi = case
    every = likelihood(case).each(theta).value
    some = torch.tensor([3, 11, 20])
    alone = ByEncoder.of_fit(choose(model, panel, "importance", Integration(1)), mixed, phi)
    few = alone.on(panel.select(some)).each(theta).value
    assert torch.allclose(every[some], few, atol=1e-5)  # the network is in single precision


def test_outcomes_far_from_zero_are_not_rounded() -> None:
    """In single precision 1e7 has no decimals: densities go in double then."""
    model, panel, theta, mixed, phi = made(0.0, missing=0.3)
    far = panel.with_outcome(panel.rows.data.y + 1e7)
    beta = model.beta(theta).clone()
    beta[0] += 1e7
    moved = {**theta, "beta": torch.linalg.solve(model.basis, beta)}
    near = EncoderPosterior(model, theta, panel.observed_rows(), mixed, phi, 1)
    away = EncoderPosterior(model, moved, far.observed_rows(), mixed, phi, 1)
    assert torch.allclose(near.log_density(), away.log_density(), atol=1e-4)
