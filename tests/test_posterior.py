"""b | y: modes, and the Gaussian that follows theta."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import build, frame, linear_gaussian, random_theta, whole

from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.posterior.modes import factor_root, find_modes, moments, tracked

MODELS = {
    "gaussian": ("y ~ x + (t | id)", "gaussian"),
    "bernoulli": ("z ~ x + (t | id)", "bernoulli"),
    "binomial": ("cbind(hits, size - hits) ~ x + (t | id)", "binomial"),
    "poisson": ("count ~ x + (t | id)", "poisson"),
    "network": ("y ~ x + (dnn(t, hidden=(4,)) | id)", "gaussian"),
}


def made(case: str) -> tuple[Model, Panel]:
    text, family = MODELS[case]
    model, panel = build(text, frame(15, 6, seed=2, missing=0.2), family)
    return model, panel.observed_rows()


@pytest.mark.parametrize("unit", [1.0, 3.0])
def test_modes_of_a_linear_gaussian_model_are_the_closed_form(unit: float) -> None:
    data = frame(15, 6, seed=2, missing=0.2)
    model, panel = build("y ~ x + (t | id) + (0 + w | id)", data, unit=unit, weights="w")
    panel, theta = panel.observed_rows(), random_theta(model, 3)
    anchor = find_modes(model, theta, whole(panel))
    mean, covariance, _ = linear_gaussian(model, theta, panel)
    np.testing.assert_allclose(anchor.mode.numpy(), mean, atol=1e-8)
    np.testing.assert_allclose(anchor.covariance.numpy(), covariance, atol=1e-8)
    determinant = np.linalg.slogdet(covariance)[1] / 2
    np.testing.assert_allclose(anchor.log_det_root.numpy(), determinant, atol=1e-8)


@pytest.mark.parametrize("case", MODELS)
def test_newton_ends_at_a_stationary_point(case: str) -> None:
    model, panel = made(case)
    theta, block = random_theta(model, 4, 0.6), whole(panel)
    anchor = find_modes(model, theta, block)
    assert float(anchor.decrement.max()) < 1e-10
    b = anchor.mode.clone().requires_grad_()
    height = model.log_joint(model.prepare(theta), b, block)
    (slope,) = torch.autograd.grad(height.sum(), b)
    assert float(slope.abs().max()) < 1e-5
    for direction in torch.eye(model.k, dtype=torch.float64):
        for step in (-0.05, 0.05):
            near = model.log_joint(model.prepare(theta), anchor.mode + step * direction, block)
            assert (near < height).all()


@pytest.mark.parametrize("case", ["bernoulli", "poisson"])
def test_modes_do_not_depend_on_the_start(case: str) -> None:
    model, panel = made(case)
    theta, block = random_theta(model, 4, 0.6), whole(panel)
    plain = find_modes(model, theta, block)
    far = find_modes(model, theta, block, start=torch.full_like(plain.mode, 3.0))
    assert torch.allclose(plain.mode, far.mode, atol=1e-6)


def test_a_subject_without_rows_sits_at_the_prior() -> None:
    data = frame(6, 4)
    data.loc[data.id == 2, "z"] = np.nan
    model, panel = build("z ~ x + (t | id)", data, "bernoulli")
    anchor = find_modes(model, random_theta(model), whole(panel.observed_rows()))
    assert float(anchor.mode[2].abs().max()) == 0.0
    assert torch.equal(anchor.covariance[2], torch.eye(2, dtype=torch.float64))


def test_tracked_is_the_posterior_at_a_moved_theta_of_a_linear_gaussian_model() -> None:
    model, panel = made("gaussian")
    theta, moved = random_theta(model, 3), random_theta(model, 9, 0.5)
    block = whole(panel)
    anchor = find_modes(model, theta, block)
    mean, root, log_det = tracked(model, model.prepare(moved), anchor, block)
    known, covariance, _ = linear_gaussian(model, moved, panel)
    np.testing.assert_allclose(mean.detach().numpy(), known, atol=1e-8)
    np.testing.assert_allclose((root @ root.mT).detach().numpy(), covariance, atol=1e-8)
    np.testing.assert_allclose(
        log_det.detach().numpy(), np.linalg.slogdet(covariance)[1] / 2, atol=1e-8
    )


@pytest.mark.parametrize("case", MODELS)
def test_tracked_at_the_anchor_is_the_anchor(case: str) -> None:
    model, panel = made(case)
    theta, block = random_theta(model, 4), whole(panel)
    anchor = find_modes(model, theta, block)
    mean, root, log_det = tracked(model, model.prepare(theta), anchor, block)
    assert torch.allclose(mean, anchor.mode, atol=1e-5)
    assert torch.allclose(root, anchor.root, atol=1e-10)
    assert torch.allclose(log_det, anchor.log_det_root, atol=1e-10)


@pytest.mark.parametrize("case", ["bernoulli", "network"])
def test_tracked_has_the_gradient_of_its_finite_differences(case: str) -> None:
    model, panel = made(case)
    theta, block = random_theta(model, 4), whole(panel)
    anchor = find_modes(model, theta, block)
    vector = model.packing.pack(theta).requires_grad_()

    def size(v: torch.Tensor) -> torch.Tensor:
        ready = model.prepare(model.packing.unpack(v))
        mean, root, log_det = tracked(model, ready, anchor, block)
        return mean.square().sum() + root.sum() + log_det.sum()

    (gradient,) = torch.autograd.grad(size(vector), vector)
    direction = torch.randn(len(vector), generator=torch.Generator().manual_seed(1)).double()
    h = 1e-5
    up, down = (size((vector + s * h * direction).detach()) for s in (1, -1))
    assert float(gradient @ direction) == pytest.approx(
        float((up - down).detach()) / (2 * h), rel=1e-6
    )


def test_factor_root_is_a_root_of_the_inverse() -> None:
    A = torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    P = A @ A.mT + torch.eye(3, dtype=torch.float64)
    root, log_det = factor_root(P)
    assert torch.allclose(root @ root.mT @ P, torch.eye(3, dtype=torch.float64), atol=1e-10)
    assert torch.allclose(log_det, -0.5 * torch.linalg.slogdet(P)[1], atol=1e-10)


def test_moments_are_weighted_by_the_normalised_weights() -> None:
    values = torch.tensor([[[0.0, 1.0]], [[2.0, 3.0]], [[4.0, -1.0]]], dtype=torch.float64)
    weight = torch.tensor([[0.2], [0.5], [0.3]], dtype=torch.float64)
    found = moments(values, weight.log() + 700.0)  # a constant drops out
    mean = np.average(values[:, 0].numpy(), axis=0, weights=weight[:, 0].numpy())
    cov = np.cov(values[:, 0].numpy().T, aweights=weight[:, 0].numpy(), ddof=0)
    np.testing.assert_allclose(found.mean[0].numpy(), mean, atol=1e-12)
    np.testing.assert_allclose(found.covariance[0].numpy(), cov, atol=1e-12)
    assert float(found.effective[0]) == pytest.approx(1 / (0.04 + 0.25 + 0.09))
