"""Laplace's approximation with several grouping factors against dense brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import build, crossed_frame, dense_laplace, dense_Z, random_theta

from dgmm.families import find
from dgmm.likelihood.crossed_engine import CrossedEngine
from dgmm.likelihood.crossed_statistics import crossed_statistics
from dgmm.likelihood.level_posterior import LevelPosterior
from dgmm.likelihood.sufficient import GaussianValue

CASES = (
    ("z ~ x + (1 | a) + (t | b)", "bernoulli"),
    ("hits / size ~ x + (1 | a) + (1 | b)", "binomial"),
    ("count ~ x + (1 | a / c)", "poisson"),
    ("count ~ x + (1 | a / c) + (x || b)", "poisson"),
    ("y ~ x + (x | a) + (1 | b)", "gaussian"),
)


@pytest.mark.parametrize(("text", "family"), CASES)
def test_the_value_is_that_of_brute_force(text: str, family: str) -> None:
    model, panel = build(text, crossed_frame(), family)
    joint = CrossedEngine(model, panel)
    for seed in range(2):
        theta = random_theta(model, seed)
        found = joint.value(model.packing.pack(theta).numpy())
        assert found == pytest.approx(dense_laplace(model, theta, panel), abs=1e-8)


@pytest.mark.parametrize("natural", [False, True])
@pytest.mark.parametrize(("text", "family"), CASES)
def test_the_gradient_follows_the_mode(text: str, family: str, natural: bool) -> None:
    model, panel = build(text, crossed_frame(), family)
    joint = CrossedEngine(model, panel)
    x = 0.1 + model.packing.pack(random_theta(model, 4)).numpy()
    numeric = [
        (joint.value(x + h, natural) - joint.value(x - h, natural)) / 2e-5
        for h in 1e-5 * np.eye(len(x))
    ]
    value, gradient = joint.value_and_gradient(x, natural)
    assert value == pytest.approx(joint.value(x, natural), abs=1e-10)
    np.testing.assert_allclose(gradient, numeric, atol=1e-5)


def test_weights_that_depend_on_the_outcome_and_a_residual_variance() -> None:
    model, panel = build("positive ~ x + (1 | a) + (1 | b)", crossed_frame())
    model = model.with_outcome(family=find("gaussian", "log"))
    joint = CrossedEngine(model, panel)
    x = np.array([0.1, 0.1, -1.5, -1.2, -1.0])
    numeric = [(joint.value(x + h) - joint.value(x - h)) / 2e-5 for h in 1e-5 * np.eye(5)]
    np.testing.assert_allclose(joint.value_and_gradient(x)[1], numeric, atol=1e-4)
    theta = model.packing.unpack(torch.from_numpy(x))
    assert joint.value(x) == pytest.approx(dense_laplace(model, theta, panel), abs=1e-7)


def test_it_is_exact_for_a_gaussian_outcome() -> None:
    model, panel = build("y ~ x + (x | a) + (1 | b)", crossed_frame(), weights="w")
    x = model.packing.pack(random_theta(model, 2)).numpy()
    wanted = GaussianValue(crossed_statistics(model, panel))(x)
    assert CrossedEngine(model, panel).value(x) == pytest.approx(wanted, abs=1e-9)


def test_effects_and_predictors_are_those_of_the_conditional_normal() -> None:
    model, panel = build("y ~ x + (1 | a) + (t | b)", crossed_frame(), weights="w")
    theta = random_theta(model, 3)
    Z, rows = dense_Z(model, theta, panel), panel.rows
    W = rows.data.weights.numpy() * np.exp(-2 * float(theta["extra"][0]))
    inverse = np.linalg.inv(Z.T @ (W[:, None] * Z) + np.eye(Z.shape[1]))
    fixed = model.mu1(theta, rows).numpy()
    u = inverse @ Z.T @ (W * (rows.data.y.numpy() - fixed))
    posterior = LevelPosterior(model, theta, panel)
    mean, variance = posterior.predictive(panel, "link")
    np.testing.assert_allclose(mean, fixed + Z @ u, atol=1e-10)
    np.testing.assert_allclose(variance, np.diag(Z @ inverse @ Z.T), atol=1e-10)
    effects = posterior.effects()
    np.testing.assert_allclose(effects.mean[0][:, 0], u[:12], atol=1e-10)
    np.testing.assert_allclose(effects.mean[1].reshape(-1), u[12:], atol=1e-10)
    np.testing.assert_allclose(effects.covariance[1][1], inverse[14:16, 14:16], atol=1e-10)


def test_predictions_are_around_the_mean_of_skew_effects() -> None:
    """mode + 1/2 P^-1 Z'(f''' v) of counts, f'' = f''' = -mu, in dense matrices."""
    model, panel = build("count ~ x + (1 | a) + (t | b)", crossed_frame(), "poisson")
    theta = random_theta(model, 3)
    Z, rows = dense_Z(model, theta, panel), panel.rows
    fixed, y, u = model.mu1(theta, rows).numpy(), rows.data.y.numpy(), np.zeros(Z.shape[1])
    for _ in range(60):
        mu = np.exp(fixed + Z @ u)
        inverse = np.linalg.inv(Z.T @ (mu[:, None] * Z) + np.eye(len(u)))
        u = u + inverse @ (Z.T @ (y - mu) - u)
    mu = np.exp(fixed + Z @ u)
    inverse = np.linalg.inv(Z.T @ (mu[:, None] * Z) + np.eye(len(u)))
    shift = 0.5 * inverse @ Z.T @ (-mu * np.diag(Z @ inverse @ Z.T))
    assert np.abs(shift).max() > 0.05
    assert (np.abs(shift) < np.sqrt(np.diag(inverse))).all()
    posterior = LevelPosterior(model, theta, panel)
    mean, variance = posterior.predictive(panel, "link")
    np.testing.assert_allclose(mean, fixed + Z @ (u + shift), atol=1e-8)
    np.testing.assert_allclose(variance, np.diag(Z @ inverse @ Z.T), atol=1e-8)
    np.testing.assert_allclose(posterior.effects().mean[0][:, 0], u[:12], atol=1e-8)
