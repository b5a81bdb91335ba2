"""Encodings of Lambda: each leads to theta and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import build, frame, random_theta

from dgmm.inference.coordinates import Coordinates
from dgmm.latent import Pattern, theta_of_covariances
from dgmm.latent.covariance import working_values
from dgmm.model import Model
from dgmm.parameters import Theta, part

FORMULAS = ["(1 | id)", "(t | id)", "(t || id)", "(poly(t, 2) | id) + (0 + x || id)"]


@pytest.fixture(params=FORMULAS)
def made(request: pytest.FixtureRequest) -> tuple[Model, Theta]:
    model, _ = build(f"y ~ t + {request.param}", frame(10, 6), unit=1.7)
    theta = random_theta(model, 4)
    return model, {name: value for name, value in theta.items() if name.startswith("latent")}


def same(one: Theta, two: Theta, atol: float = 1e-12) -> bool:
    assert set(one) == set(two)
    return all(torch.allclose(one[name], two[name], atol=atol) for name in one)


def test_free_entries(made: tuple[Model, Theta]) -> None:
    model, theta = made
    pattern = Pattern.of(model.latents)
    entries = pattern.of_theta(theta)
    assert same(pattern.to_theta(entries.numpy()), theta)
    Lambda = torch.block_diag(
        *(one.loadings(part(theta, f"latent{i}.")) for i, one in enumerate(model.latents, 1))
    )
    frame = torch.block_diag(*(latent.frame for latent in model.latents))
    filled = torch.from_numpy(pattern.fill(entries.numpy()))
    assert torch.allclose(frame @ filled, Lambda, atol=1e-13)


def test_columns_of_either_sign_are_one_covariance(made: tuple[Model, Theta]) -> None:
    model, theta = made
    pattern = Pattern.of(model.latents)
    L = pattern.fill(pattern.of_theta(theta).numpy())
    turned = L * np.where(np.arange(len(L)) % 2, 1.0, -1.0)
    assert same(pattern.to_theta(turned[pattern.row, pattern.column]), theta)


def test_relative_to_sigma(made: tuple[Model, Theta]) -> None:
    model, theta = made
    pattern = Pattern.of(model.latents)
    log_sigma = torch.tensor([0.4], dtype=torch.float64)
    relative = pattern.relative(theta, log_sigma, model.unit)
    back = relative * torch.exp(log_sigma) / model.unit
    assert same(pattern.to_theta(back.numpy()), theta)


def test_covariance_matrices(made: tuple[Model, Theta]) -> None:
    model, theta = made
    roots = [one.loadings(part(theta, f"latent{i}.")) for i, one in enumerate(model.latents, 1)]
    assert same(theta_of_covariances(model.latents, [R @ R.T for R in roots]), theta, atol=1e-7)


def test_standard_deviations_and_partial_correlations(made: tuple[Model, Theta]) -> None:
    model, theta = made
    coordinates = Coordinates.of(model.latents)
    vector = torch.from_numpy(coordinates.of_theta(theta))
    assert same(coordinates.to_theta(vector), theta, atol=1e-6)


def test_a_singular_covariance_has_a_finite_theta() -> None:
    model, _ = build("y ~ t + (t | id)", frame(10, 6))
    D = torch.tensor([[1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    theta = theta_of_covariances(model.latents, [D])
    Lambda = model.latents[0].loadings(part(theta, "latent1."))
    assert torch.allclose(Lambda @ Lambda.T, D, atol=1e-8)


def test_other_terms_have_no_entries() -> None:
    model, _ = build("y ~ t + (ou(t) | id) + (1 | id)", frame(10, 6))
    pattern = Pattern.of(model.latents)
    assert pattern.q == 1
    assert set(pattern.to_theta(np.ones(1))) == {"latent2.log_diagonal"}


@pytest.mark.parametrize("text", ["(1 | id)", "(t | id)", "(t || id)", "(poly(t, 2) | id)"])
def test_reported_values_and_their_slopes(text: str) -> None:
    """Those of the structure, by automatic differentiation."""
    model, _ = build(f"y ~ t + {text}", frame(10, 6), unit=1.7)
    (latent,) = model.latents
    weights = part(random_theta(model, 4), "latent1.")
    names = list(weights)

    def working(*values: torch.Tensor) -> torch.Tensor:
        found = latent.reported(dict(zip(names, values, strict=True)))
        pairs = zip(latent.components(), found, strict=True)
        return torch.stack([one.link.forward(value) for one, value in pairs])

    wanted = torch.autograd.functional.jacobian(working, tuple(weights.values()))
    slopes = latent.working_slopes(weights)
    assert slopes is not None
    assert torch.allclose(slopes, torch.cat(wanted, dim=1), atol=1e-12)
    pattern = Pattern.of([latent])
    L = pattern.fill(pattern.of_theta({f"latent1.{n}": v for n, v in weights.items()}).numpy())
    both = np.stack([L, 2.0 * L])
    values, steep = working_values(pattern, both, np.stack([latent.frame.numpy()] * 2))
    np.testing.assert_allclose(values[0], working(*weights.values()).numpy(), atol=1e-12)
    np.testing.assert_allclose(
        values[1], values[0] + np.log(2) * (np.arange(len(values[0])) < latent.dim)
    )
    np.testing.assert_allclose(steep[0], slopes.numpy(), atol=1e-14)


def test_a_restricted_covariance_has_slopes_by_differentiation_alone() -> None:
    model, _ = build("y ~ t + cs(0 + t + w | id)", frame(10, 6))
    assert model.latents[0].working_slopes(part(random_theta(model, 1), "latent1.")) is None
