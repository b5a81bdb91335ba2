"""Kernels: reversible for the target they are given, whatever the proposal."""

from __future__ import annotations

import math

import pytest
import torch
from toys import generator

from dgmm.mcmc import Proposal, State, independence, random_walk, tune

CHAINS = 400_000
EDGES = torch.tensor([-1.0, 0.0, 0.7, 1.5, 2.5], dtype=torch.float64)


def log_target(x: torch.Tensor) -> torch.Tensor:
    """A skew posterior on the line: logistic likelihood of 3 successes in 4, normal prior."""
    b = 2.0 * x[..., 0]
    return 3 * b - 4 * torch.nn.functional.softplus(b) - 0.5 * x[..., 0].square()


def stationary(g: torch.Generator) -> State:
    """Independent draws of the target from its distribution function on a fine grid."""
    grid = torch.linspace(-8, 8, 160_001, dtype=torch.float64)[:, None]
    cumulative = torch.cumsum(log_target(grid).exp(), 0)
    u = torch.rand(CHAINS, generator=g, dtype=torch.float64) * cumulative[-1]
    x = grid[torch.searchsorted(cumulative, u).clamp(max=len(grid) - 1)][:, None, :]
    return State(x, log_target(x))


KERNELS = {
    "walk": lambda state, g: random_walk(
        state, log_target, torch.full((1, 1, 1), 0.9, dtype=torch.float64), g
    ),
    "independence": lambda state, g: independence(
        state,
        log_target,
        Proposal(torch.full((1, 1), 0.3).double(), torch.full((1, 1, 1), 0.8).double()),
        g,
    ),
}


@pytest.mark.parametrize("word", sorted(KERNELS))
def test_detailed_balance(word: str) -> None:
    """P(x in A, x' in B) = P(x in B, x' in A) for draws of the target and all cells A, B."""
    g = generator(3)
    old = stationary(g)
    new, accepted = KERNELS[word](old, g)
    assert 0.2 < float(accepted.double().mean()) < 0.9
    a, b = (torch.bucketize(s.x[:, 0, 0], EDGES) for s in (old, new))
    size = len(EDGES) + 1
    flow = torch.bincount(a * size + b, minlength=size**2).reshape(size, size).double()
    error = (flow + flow.T).sqrt().clamp(min=1)
    assert float(((flow - flow.T) / error).abs().max()) < 4
    # and the target is invariant: its expectation after the step is that of the grid
    grid = torch.linspace(-8, 8, 160_001, dtype=torch.float64)[:, None]
    weight = torch.softmax(log_target(grid), 0)
    mean = float(weight @ grid[:, 0])
    assert abs(float(new.x.mean()) - mean) < 4 * float(new.x.std()) / math.sqrt(CHAINS)


def test_leaving_out_the_density_of_the_proposal_breaks_the_balance() -> None:
    """The test above would see it."""
    g = generator(3)
    old = stationary(g)
    wrong = Proposal(torch.full((1, 1), 0.3).double(), torch.full((1, 1, 1), 0.8).double())
    x = wrong.draw(CHAINS, g)
    keep = torch.rand(CHAINS, 1, generator=g).double().log() < log_target(x) - old.log_density
    new = torch.where(keep[..., None], x, old.x)
    a, b = (torch.bucketize(v[:, 0, 0], EDGES) for v in (old.x, new))
    flow = torch.bincount(a * 6 + b, minlength=36).reshape(6, 6).double()
    assert float(((flow - flow.T) / (flow + flow.T).sqrt().clamp(min=1)).abs().max()) > 8


def test_the_proposal_has_the_density_it_says() -> None:
    """t5 with a root in two dimensions: the log density differs from torch's by a constant."""
    root = torch.tensor([[[1.0, 0.0], [0.4, 0.7]]], dtype=torch.float64)
    proposal = Proposal(torch.tensor([[0.3, -0.2]], dtype=torch.float64), root)
    x = torch.randn(50, 1, 2, generator=generator(1), dtype=torch.float64)
    e = torch.linalg.solve(root, (x - proposal.mean)[..., None])[..., 0]
    density = -0.5 * 7 * torch.log1p(e.square().sum(-1) / 5)
    assert torch.allclose(proposal.log_density(x), density, atol=1e-12)
    draws = proposal.draw(200_000, generator(2))[:, 0]
    covariance = (root @ root.mT)[0] * 5 / 3  # that of a t5
    assert torch.allclose(draws.T.cov(), covariance, rtol=0.05, atol=0.02)


def test_a_state_of_density_zero_is_never_entered() -> None:
    def half_line(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x[..., 0] > 0, -x[..., 0], -torch.inf)

    g, x = generator(4), torch.full((50, 3, 1), 0.5, dtype=torch.float64)
    state, root = State(x, half_line(x)), torch.full((3, 1, 1), 2.0, dtype=torch.float64)
    for _ in range(50):
        state, _ = random_walk(state, half_line, root, g)
    assert bool((state.x > 0).all())


def test_tuning_moves_every_target_to_its_own_step_length() -> None:
    """Normal targets of standard deviation 0.1, 1 and 10: steps in the same proportion."""
    sd = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)

    def normal(x: torch.Tensor) -> torch.Tensor:
        return -0.5 * (x[..., 0] / sd).square()

    g, x = generator(5), torch.zeros(40, 3, 1, dtype=torch.float64)
    state, scale = State(x, normal(x)), torch.zeros(3, dtype=torch.float64)
    for step in range(600):
        root = scale.exp()[:, None, None]
        state, accepted = random_walk(state, normal, root, g)
        scale = tune(scale, accepted, 2.0 / (1 + step) ** 0.6)
    ratio = scale.exp() / sd
    assert float(ratio.max() / ratio.min()) < 1.3
    assert 0.2 < float(accepted.double().mean()) < 0.4
