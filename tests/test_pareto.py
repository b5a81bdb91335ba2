"""The tails of importance weights, beside arviz-stats, which takes one set at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import generator

from dgmm.mcmc.diagnostics import pareto_k
from dgmm.numerics.pareto import tail_shape


@pytest.mark.parametrize("draws", [30, 64, 225, 226, 1000])
def test_shapes_are_those_of_arviz(draws: int) -> None:
    """Weights w^a of exponential logs: Pareto tails with k = a from 0 to 1.5."""
    g = generator(1)
    a = 1.5 * torch.rand(1, 25, generator=g, dtype=torch.float64)
    logs = a * torch.empty(draws, 25, dtype=torch.float64).exponential_(generator=g) + 700
    np.testing.assert_allclose(tail_shape(logs).numpy(), pareto_k(logs.numpy()), rtol=1e-8)


def test_the_shape_of_a_long_tail_is_found() -> None:
    """The prior of ten draws at 1/2 is two per cent of the 474 draws in the tail."""
    g = generator(2)
    logs = torch.empty(25_000, 200, dtype=torch.float64).exponential_(generator=g)
    for k in (0.3, 0.9):
        found = tail_shape(k * logs)
        error = (1 + k) / 474**0.5  # of one estimate: Zhang and Stephens (2009)
        shrunk = (474 * k + 5) / 484
        assert abs(float(found.mean()) - shrunk) < 4 * error / 200**0.5 + 0.01


def test_weights_without_a_tail() -> None:
    logs = torch.zeros(100, 3, dtype=torch.float64)
    logs[:, 1] = torch.linspace(-1, 0, 100)
    found = tail_shape(logs)
    assert float(found[0]) == float(found[2]) == -torch.inf
    assert bool(found[1].isfinite())
    assert bool((tail_shape(logs[:20]) == torch.inf).all())  # four draws say nothing
