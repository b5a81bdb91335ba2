"""A mixture around the components of a proposal, and how its draws are shared out."""

from __future__ import annotations

import pytest
import torch
from toys import generator

from dgmm.model import log_prior
from dgmm.posterior.mixture import UNITS, Mixture, component_of, shared_out


def made(shares: list[float]) -> Mixture:
    """One subject, components with correlated effects."""
    C, g = len(shares), generator(1)
    mean = torch.randn(C, 1, 2, generator=g, dtype=torch.float64)
    root = torch.randn(C, 1, 2, 2, generator=g, dtype=torch.float64).triu()
    root.diagonal(dim1=-2, dim2=-1).abs_().add_(0.3)
    log_det = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return Mixture(mean, root, log_det, torch.tensor(shares).double().log()[:, None])


def test_the_density_is_that_of_the_mixture() -> None:
    q = made([0.5, 0.2, 0.3])
    b = torch.randn(50, 1, 2, generator=generator(2), dtype=torch.float64)
    known = torch.zeros(50, dtype=torch.float64)
    for mean, root, share in zip(q.mean[:, 0], q.root[:, 0], q.log_share[:, 0], strict=True):
        normal = torch.distributions.MultivariateNormal(mean, root @ root.T)
        known += (share + normal.log_prob(b[:, 0])).exp()
    torch.testing.assert_close(q.log_density(b, log_prior)[:, 0], known.log())


def test_a_component_without_a_share_is_not_there() -> None:
    whole, part = made([0.6, 0.4, 0.0]), made([0.6, 0.4, 0.0])
    part = Mixture(*(one[:2] for one in part))
    b = torch.randn(9, 1, 2, generator=generator(2), dtype=torch.float64)
    torch.testing.assert_close(whole.log_density(b, log_prior), part.log_density(b, log_prior))


def test_draws_are_those_of_their_component() -> None:
    q, e = made([0.5, 0.5]), torch.randn(4, 1, 2, generator=generator(3), dtype=torch.float64)
    b = q.at(e, torch.tensor([[0], [1], [1], [0]]))
    for m, c in enumerate((0, 1, 1, 0)):
        torch.testing.assert_close(b[m, 0], q.mean[c, 0] + q.root[c, 0] @ e[m, 0])


@pytest.mark.parametrize("draws", [8, 32, 100, 512])
def test_every_component_gets_draws_by_its_mass(draws: int) -> None:
    mass = torch.tensor(
        [[1.0, 0.5, 0.999, 0.7, 1 / 3], [0, 0.5, 0.001, 0.2, 1 / 3], [0, 0, 0, 0.1, 1 / 3]]
    ).double()
    counts = shared_out(mass, draws)
    assert bool((counts.sum(0) == draws).all())
    assert bool(((counts > 0) == (mass > 0)).all())
    unit = draws / min(UNITS, draws)
    floor = torch.where(mass > 0, unit, 0.0)
    expected = floor + mass * (draws - floor.sum(0))
    assert bool(((counts - expected).abs() <= unit + 1).all())
    where = component_of(counts)
    assert torch.equal((where[None] == torch.arange(3)[:, None, None]).sum(1), counts)


def test_rounding_does_not_share_out_other_draws() -> None:
    equal = torch.full((3, 1), 1 / 3, dtype=torch.float64)
    for number in range(3):
        other = equal.clone()
        other[number] += 1e-12
        assert torch.equal(shared_out(other, 64), shared_out(equal, 64))


def test_fewer_draws_than_components() -> None:
    counts = shared_out(torch.full((16, 2), 1 / 16, dtype=torch.float64), 8)
    assert torch.equal(counts[:, 0], torch.tensor([1] * 8 + [0] * 8))
