"""Sums of kappa at nodes against the log-density row by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_adaptive import likelihood, ready

from dgmm.families import Observations, find
from dgmm.likelihood import Quadrature
from dgmm.likelihood.canonical_nodes import LARGEST, AroundModes
from dgmm.likelihood.slabs import Slab

CASES = [
    ("count ~ x + (t | id)", "poisson"),
    ("z ~ x + t + (t | id)", "bernoulli"),
    ("cbind(hits, size - hits) ~ x + (1 | id)", "binomial"),
]


@pytest.mark.parametrize("case", CASES)
def test_quadrature_is_that_of_every_row(case: tuple[str, str]) -> None:
    model, panel, theta = ready(case)
    ours, plain = (likelihood(model, panel, Quadrature(11)) for _ in range(2))
    assert ours.canonical
    plain.canonical = False
    x = ours.vector(theta)
    one, other = (e.value_and_gradient(x, scores=True) for e in (ours, plain))
    assert one.value == pytest.approx(other.value, rel=1e-12)
    np.testing.assert_allclose(one.gradient, other.gradient, atol=1e-10)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-10)
    np.testing.assert_allclose(ours.per_subject(x), plain.per_subject(x), atol=1e-10)


@pytest.mark.parametrize("name", ["bernoulli", "binomial", "poisson"])
def test_the_density_is_that_of_kappa(name: str) -> None:
    """log p = w (y eta - m kappa) + what eta is not in, far out in eta too."""
    family = find(name)
    eta = torch.tensor([-800.0, -40.0, -2.0, 0.0, 0.3, 5.0, 30.0], dtype=torch.float64)
    eta = eta if name == "poisson" else torch.cat([eta, torch.tensor([800.0]).double()])
    m = 7.0 if name == "binomial" else 1.0
    data = Observations(*(torch.full_like(eta, v) for v in (1.0, m, 1.5)))
    kappa, slope = family.cumulant(eta)
    log_p = data.weights * (data.y * eta - m * kappa)
    wanted = family.log_density(data, eta, eta[:0])
    torch.testing.assert_close(log_p - log_p[3], wanted - wanted[3], rtol=1e-12, atol=1e-10)
    point = eta.clone().requires_grad_()
    (score,) = torch.autograd.grad(family.log_density(data, point, eta[:0]).sum(), point)
    torch.testing.assert_close(data.weights * (data.y - m * slope), score, rtol=1e-9, atol=1e-12)
    assert find(name, family.links[1]).cumulant(eta) is None


def test_counts_in_the_millions_keep_the_digits_of_a_change() -> None:
    """y (eta + d) - e^(eta + d), less that at eta, is y d - e^eta expm1(d)."""
    eta = torch.full((2, 3), np.log(1e9), dtype=torch.float64)
    y, one = torch.exp(eta) + 1e5, torch.ones(1, 1, dtype=torch.float64)
    slab = Slab(slice(0, 3), slice(0, 6), (2, 3), None, Observations(y, one, one), (None,))
    around = AroundModes.of(find("poisson"), slab, eta, 10)
    assert around is not None
    assert around.large
    c = torch.tensor([[[1e-5, -2e-5, 3e-6]]], dtype=torch.float64)
    d, mean = c[0, 0].numpy(), torch.exp(eta)[0].numpy()
    # to the third power of d, of which the next is below 1e-12 of it
    change = 2 * ((y[0].numpy() - mean) * d - mean * (d**2 / 2 + d**3 / 6 + d**4 / 24))
    np.testing.assert_allclose(around.heights(c)[0], change, rtol=1e-9)
    nodes, base = torch.zeros(1, 1, 3, dtype=torch.float64), torch.zeros(1, 3).double()
    found = around.averages(c, nodes, base)
    first = (y[0].numpy() - mean) - mean * np.expm1(d)
    np.testing.assert_allclose((found.first / found.mass)[0], first, rtol=1e-9)


def test_trials_in_the_millions_are_left_to_the_rows() -> None:
    eta = torch.zeros(1, 2, dtype=torch.float64)
    for trials in (LARGEST, 2 * LARGEST):  # of kappa log 2 each
        size = torch.full((1, 1), trials, dtype=torch.float64)
        data = Observations(size / 2, size, torch.ones(1, 1, dtype=torch.float64))
        slab = Slab(slice(0, 2), slice(0, 2), (1, 2), None, data, (None,))
        found = AroundModes.of(find("binomial"), slab, eta, 10)
        assert (found is None) is (trials > LARGEST)
