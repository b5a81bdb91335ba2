"""Outcomes drawn from the joint density have its moments."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import build, frame, generator, linear_gaussian, random_theta

from dgmm.model import Model
from dgmm.model.simulation import simulate_panel
from dgmm.panel import Panel
from dgmm.parameters import Theta


def design_of(model: Model, panel: Panel, theta: Theta) -> torch.Tensor:
    """Z = T Lambda of a model with one linear latent term, (N, k)."""
    own = {n[8:]: v for n, v in theta.items() if n.startswith("latent1")}
    return panel.rows.T[0] @ model.latents[0].loadings(own)


def test_simulated_panels_have_the_marginal_mean_and_covariance() -> None:
    model, panel = build("y ~ x + (t | id)", frame(5, 4))
    theta, M = random_theta(model, 1), 3000
    g = generator(2)
    y = torch.stack([simulate_panel(model, theta, panel, g) for _ in range(M)]).numpy()
    mean = model.mu1(model.prepare(theta), panel.rows).numpy()
    assert (np.abs(y.mean(0) - mean) < 4 * y.std(0) / M**0.5).all()
    Z = design_of(model, panel, theta).numpy()
    same = panel.subject.numpy()[:, None] == panel.subject.numpy()
    V = (Z @ Z.T) * same + float(torch.exp(2 * theta["extra"][0])) * np.eye(20)
    found = np.cov(y.T)
    error = np.sqrt((V**2 + np.outer(V.diagonal(), V.diagonal())) / M)
    assert (np.abs(found - V) < 4.5 * error).all()


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("z ~ x + (t | id)", "bernoulli"),
        ("cbind(hits, size - hits) ~ x + (t | id)", "binomial"),
        ("count ~ x + (t | id)", "poisson"),
    ],
)
def test_given_effects_fix_the_mean(text: str, family: str) -> None:
    model, panel = build(text, frame(6, 4), family)
    theta, M = random_theta(model, 1), 2000
    b = torch.randn(panel.n, 2, generator=generator(3), dtype=torch.float64)
    g = generator(4)
    y = torch.stack([simulate_panel(model, theta, panel, g, b) for _ in range(M)])
    Z = design_of(model, panel, theta)
    eta = model.mu1(model.prepare(theta), panel.rows) + (Z * b[panel.subject]).sum(1)
    mean = model.family.mean(eta, theta["extra"]) * panel.rows.data.trials
    assert ((y.mean(0) - mean).abs() < 4 * y.std(0) / M**0.5).all()


def test_same_generator_same_outcomes() -> None:
    model, panel = build("y ~ x + (t | id)", frame(5, 4))
    theta = random_theta(model, 1)
    first, again, other = (simulate_panel(model, theta, panel, generator(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_planned_row_gets_an_outcome_where_subjects_are_uneven() -> None:
    data = frame(9, 6, seed=1, missing=0.3)
    model, panel = build("y ~ x + (t | id)", data[data.groupby("id").cumcount() < 1 + data.id % 6])
    y = simulate_panel(model, random_theta(model, 1), panel, generator(1))
    assert y.shape == (panel.n_rows,)
    assert bool(torch.isfinite(y).all())
    assert len(torch.unique(y)) == panel.n_rows


def test_the_likelihood_is_highest_on_average_at_the_truth() -> None:
    model, panel = build("y ~ x + (t | id)", frame(600, 4))
    theta, wrong = random_theta(model, 1), random_theta(model, 2)
    drawn = panel.with_outcome(simulate_panel(model, theta, panel, generator(1)))
    gain = linear_gaussian(model, theta, drawn)[2] - linear_gaussian(model, wrong, drawn)[2]
    assert gain.mean() > 4 * gain.std() / 600**0.5
