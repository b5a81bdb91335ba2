"""Variance of E(eta | y) from theta-hat, against differences of the predictions themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from toys import build, frame, random_theta

from dgmm.information import Covariance
from dgmm.likelihood import choose
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.posterior.modes import find_modes
from dgmm.prediction.sensitivity import subject_slopes


def errors(model: Model, theta: Theta, V: Tensor, history: Panel, target: Panel) -> Tensor:
    """Standard errors of E(eta | y) for theta-hat ~ N(theta, V)."""
    slopes = subject_slopes(model, theta, history, target)
    known = Covariance(theta, model.packing, V)
    return known.errors(lambda _: torch.zeros(target.n_rows).double(), slopes)


def covariance(size: int) -> Tensor:
    root = 0.05 * torch.randn(size, size, generator=torch.Generator().manual_seed(3)).double()
    return root @ root.T


@pytest.mark.parametrize(
    "text",
    [
        "y ~ x + t + (t | id)",
        "y ~ dnn(x, hidden=(4,)) + (t | id)",
        "y ~ dnn(x, hidden=(4,)) + (1 | id) + (ou(t) | id)",
    ],
)
def test_a_linear_gaussian_posterior_mean_by_differences(text: str) -> None:
    """b | y is normal, mode and mean agree: the delta method of the exact predictions."""
    model, panel = build(text, frame(missing=0.3))
    theta, seen = random_theta(model), panel.observed_rows()
    V = covariance(model.packing.size)
    likelihood = choose(model, panel, "exact")
    history, target, places = seen, panel, torch.arange(panel.n_rows)
    if model.serial:  # the states of the new rows follow from those of the others
        history, places = seen.joined(panel, seen.rows.data)
        target = replace(history, masked=False)

    def mean(vector: Tensor) -> Tensor:
        posterior = likelihood.on(history).posterior(model.packing.unpack(vector))
        return posterior.predictive(target, "link").mean[places]

    x, h = model.packing.pack(theta), 1e-5
    steps = h * torch.eye(len(x), dtype=torch.float64)
    J = torch.stack([(mean(x + s) - mean(x - s)) / (2 * h) for s in steps], dim=1)
    expected = torch.einsum("np,pq,nq->n", J, V, J).sqrt()
    torch.testing.assert_close(errors(model, theta, V, seen, panel), expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("y ~ x + dnn(w, hidden=(3,)) + (dnn(t, hidden=(4,)) | id)", "gaussian"),
        ("count ~ x + (t | id)", "poisson"),
    ],
)
def test_modes_that_follow_theta_by_differences(text: str, family: str) -> None:
    """eta at the mode; with an information that is the curvature, the sensitivity is exact."""
    model, panel = build(text, frame(missing=0.3), family)
    theta, seen = random_theta(model, spread=0.2), panel.observed_rows()
    block = seen.block(torch.arange(seen.n))
    rows = panel.block(block.subjects)

    def eta(vector: Tensor) -> Tensor:
        here: Theta = model.packing.unpack(vector)
        ready = model.prepare(here)
        b = find_modes(model, here, block).mode
        return (model.mu1(ready, rows.rows) + model.mu2(ready, b, rows.rows))[rows.mask]

    V = covariance(model.packing.size)
    x, h = model.packing.pack(theta), 1e-4
    steps = h * torch.eye(len(x), dtype=torch.float64)
    J = torch.stack([(eta(x + s) - eta(x - s)) / (2 * h) for s in steps], dim=1)
    expected = torch.einsum("np,pq,nq->n", J, V, J).sqrt()
    found = errors(model, theta, V, seen, panel)[rows.index[rows.mask]]
    # a network bends in b, which P = I + J'W J leaves out
    tolerance = 0.1 if family == "gaussian" else 1e-4
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=1e-3)
