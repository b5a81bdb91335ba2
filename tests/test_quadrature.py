"""Node rules against integrals that are known."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from dgmm.numerics.quadrature import (
    MOST_DIMENSIONS,
    Nodes,
    gauss_hermite,
    keyed_uniforms,
    sobol_gaussian,
    sobol_normal,
    sobol_t,
    sphere,
    spherical_radial,
    wide_rule,
)

DIMENSIONS = [1, 2, 3]


def standard_normal(b: Tensor) -> Tensor:
    k = b.shape[-1]
    return torch.exp(-0.5 * b.square().sum(-1)) / (2 * math.pi) ** (k / 2)


def integral(nodes: Nodes, values: Tensor) -> Tensor:
    return (nodes.log_weight.exp() * values).sum(0)


@pytest.mark.parametrize("k", DIMENSIONS)
def test_gauss_hermite_is_exact_for_polynomials_under_the_normal(k: int) -> None:
    points = 6
    nodes = gauss_hermite(k, points)
    assert nodes.e.shape == (points**k, 1, k)
    moment = {0: 1, 2: 1, 4: 3, 6: 15, 8: 105, 10: 945}
    for powers in product([0, 1, 2, 5, 8, 10], repeat=k):
        power = torch.tensor(powers, dtype=torch.float64)
        values = standard_normal(nodes.e) * nodes.e.pow(power).prod(-1)
        known = math.prod(moment.get(p, 0) for p in powers)
        assert float(integral(nodes, values)[0]) == pytest.approx(known, rel=1e-10, abs=1e-8)


@pytest.mark.parametrize("k", DIMENSIONS)
def test_gauss_hermite_gives_a_moment_generating_function(k: int) -> None:
    nodes, a = gauss_hermite(k, 25), torch.linspace(-1.0, 1.2, k, dtype=torch.float64)
    values = standard_normal(nodes.e) * torch.exp(nodes.e @ a)
    known = math.exp(0.5 * float(a.square().sum()))
    assert float(integral(nodes, values)[0]) == pytest.approx(known, rel=1e-10)


def test_long_rules_do_not_underflow() -> None:
    nodes = gauss_hermite(1, 401)
    assert torch.isfinite(nodes.log_weight).all()
    total = integral(nodes, standard_normal(nodes.e))
    assert float(total[0]) == pytest.approx(1.0, abs=1e-10)


def test_shared_rules_are_the_same_for_every_subject() -> None:
    nodes = gauss_hermite(2, 3)
    assert nodes.rows(torch.tensor([4, 1])) is nodes


def test_own_rules_are_picked_by_subject() -> None:
    nodes = sobol_t(6, 2, 8, np.random.default_rng(1))
    chosen = nodes.rows(torch.tensor([4, 1]))
    assert torch.equal(chosen.e, nodes.e[:, [4, 1]])
    assert torch.equal(chosen.log_weight, nodes.log_weight[:, [4, 1]])


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_sobol_t_integrates_a_shifted_normal(k: int) -> None:
    n = 60
    nodes = sobol_t(n, k, 512, np.random.default_rng(2))
    assert nodes.e.shape == (512, n, k)
    shift = torch.full((k,), 0.4, dtype=torch.float64)
    for values, known in (
        (standard_normal(nodes.e - shift), 1.0),
        (standard_normal(nodes.e - shift) * nodes.e[..., 0], 0.4),
        (standard_normal(nodes.e - shift) * nodes.e[..., 0].square(), 1.16),
    ):
        estimates = integral(nodes, values)
        error = float(estimates.std()) / n**0.5
        assert abs(float(estimates.mean()) - known) < 4 * error
        independent = (512 * nodes.log_weight.exp() * values).std(0).mean() / 512**0.5
        assert float(estimates.std()) < 0.8 * float(independent)  # quasi-random draws do better


def test_subjects_of_sobol_t_are_independent() -> None:
    nodes = sobol_t(400, 2, 64, np.random.default_rng(3))
    estimates = integral(nodes, standard_normal(nodes.e - 0.5))
    pairs = np.corrcoef(estimates[:200].numpy(), estimates[200:].numpy())[0, 1]
    assert abs(pairs) < 4 / 200**0.5
    assert float((estimates[:200] - estimates[200:]).abs().min()) > 0


def test_sobol_t_draws_follow_the_t_distribution() -> None:
    nodes = sobol_t(100, 2, 256, np.random.default_rng(4), df=8.0)
    # variance of t(8) is 8 / 6; kurtosis makes the error sqrt((E x^4 - var^2) / draws), E x^4 = 8
    assert float(nodes.e.square().mean()) == pytest.approx(8 / 6, abs=4 * (6.2 / 51200) ** 0.5)


def test_same_generator_same_nodes() -> None:
    first, again, other = (sobol_t(5, 2, 16, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.e, again.e)
    assert torch.equal(first.log_weight, again.log_weight)
    assert not torch.equal(first.e, other.e)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_sobol_normal_has_mean_zero_and_identity_covariance(k: int) -> None:
    e = sobol_normal(k, 1024, seed=20)
    assert e.shape == (1024, k)
    assert float(e.mean(0).abs().max()) < 1e-14
    error = 2**0.5 / 512**0.5  # of a second moment, 512 independent draws
    covariance = e.T @ e / len(e)
    assert float((covariance - torch.eye(k, dtype=e.dtype)).abs().max()) < error / 4
    assert torch.equal(e, sobol_normal(k, 1024, seed=20))
    assert not torch.equal(e, sobol_normal(k, 1024, seed=21))


def test_sobol_gaussian_is_standard_normal_for_every_subject() -> None:
    e = sobol_gaussian(40, 3, 256, np.random.default_rng(5))
    assert e.shape == (256, 40, 3)
    means, squares = e.mean(0), e.square().mean(0)
    assert abs(float(means.mean())) < 4 * float(means.std()) / 120**0.5
    assert abs(float(squares.mean()) - 1) < 4 * float(squares.std()) / 120**0.5
    assert float(means.std()) < 0.5 / 16  # plain draws would give 1 / 16


MOMENT = {0: 1, 2: 1, 4: 3, 6: 15}
"""E x^p of N(0, 1)."""


def powers_up_to(k: int, degree: int) -> list[tuple[int, ...]]:
    return [p for p in product(range(degree + 1), repeat=k) if sum(p) <= degree]


@pytest.mark.parametrize(("k", "degree"), [(2, 5), (4, 5), (9, 5), (3, 7), (5, 7), (7, 7)])
def test_rules_on_the_sphere_are_exact_and_positive(k: int, degree: int) -> None:
    points, weight = sphere(k, degree)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1.0, rtol=1e-14)
    assert (weight > 0).all()
    # E x^p on the sphere = E z^p / E |z|^|p|, z normal; three coordinates hold all that can differ
    for powers in powers_up_to(min(k, 3), degree):
        length = math.prod(k + 2 * j for j in range(sum(powers) // 2))
        known = math.prod(MOMENT.get(p, 0) for p in powers) / length
        found = weight @ np.prod(points[:, : len(powers)] ** powers, axis=1)
        assert found == pytest.approx(known, abs=1e-14)


def test_no_rule_on_the_sphere_has_negative_weights() -> None:
    with pytest.raises(ValueError, match="no positive rule of degree 7 on the sphere in 8"):
        sphere(8, 7)


@pytest.mark.parametrize(("degree", "radii"), [(5, 2), (7, 2), (7, 3)])
def test_turned_spheres_are_exact_for_polynomials_under_the_normal(degree: int, radii: int) -> None:
    k, n = 4, 3
    nodes = spherical_radial(n, k, degree, radii, np.random.default_rng(5))
    assert nodes.e.shape == (radii * len(sphere(k, degree)[1]), n, k)
    for powers in powers_up_to(k, degree):
        values = standard_normal(nodes.e) * nodes.e.pow(torch.tensor(powers)).prod(-1)
        known = math.prod(MOMENT.get(p, 0) for p in powers)
        np.testing.assert_allclose(integral(nodes, values), known, atol=1e-11)
    assert float((nodes.e[:, 0] - nodes.e[:, 1]).abs().max()) > 0.1


def test_turned_spheres_are_those_of_a_subject_whoever_else_is_there() -> None:
    rng = np.random.default_rng(0)
    both = spherical_radial(2, 4, 5, 2, rng, keys=[7, 3])
    alone = spherical_radial(1, 4, 5, 2, rng, keys=[3])
    assert torch.equal(both.e[:, 1:], alone.e)


@pytest.mark.parametrize("spread", [0.5, 3.0, 6.6, 12.0, 40.0])
@pytest.mark.parametrize("centre", [0.0, 2.5])
def test_a_wide_rule_has_the_means_of_families_at_any_spread(spread: float, centre: float) -> None:
    """E Phi(m + s z), E exp(s z / 4), E 1 / {1 + exp(-m - s z)} on a grid as fine as needed."""
    z, weight = wide_rule(spread)
    near = 1e-6 if spread == 3 else 1e-9
    assert float(weight.sum()) == pytest.approx(1, abs=1e-12)
    probit = (weight * torch.special.ndtr(centre + spread * z)).sum()
    exact = 0.5 * math.erfc(-centre / math.sqrt(2 + 2 * spread**2))
    assert float(probit) == pytest.approx(exact, abs=near)
    grown = (weight * torch.exp(0.25 * spread * z)).sum()
    assert float(grown) == pytest.approx(math.exp(spread**2 / 32), rel=1e-8)
    grid = torch.linspace(-12, 12, 48001, dtype=torch.float64)
    density = torch.exp(-0.5 * grid.square()) / math.sqrt(2 * math.pi) * (grid[1] - grid[0])
    fine = (density * torch.sigmoid(centre + spread * grid)).sum()
    logit = (weight * torch.sigmoid(centre + spread * z)).sum()
    assert float(logit) == pytest.approx(float(fine), abs=near)


def test_a_long_path_has_more_dimensions_than_a_sobol_set() -> None:
    e = sobol_normal(21_401, 64, seed=20)
    assert e.shape == (64, 21_401)
    assert float(e.mean(0).abs().max()) < 1e-12
    beyond = e[:, 21_201:]
    assert float(beyond.square().mean()) == pytest.approx(1, abs=4 * (2 / (32 * 200)) ** 0.5)


def test_uniforms_by_key_are_quasi_random_and_those_of_the_key_alone() -> None:
    """Of 64 points of a Sobol set, shifted digit by digit, one lies in each 64th of every axis."""
    keys = [5, 2**31, 77, 6]
    u = keyed_uniforms(keys, 3, 64, seed=2)
    assert u.shape == (64, 4, 3)
    cells = (64 * u).long().sort(0).values
    assert torch.equal(cells, torch.arange(64)[:, None, None].expand(64, 4, 3))
    assert torch.equal(keyed_uniforms([77], 3, 64, seed=2)[:, 0], u[:, 2])
    other = keyed_uniforms(keys, 3, 64, seed=3)
    assert float((other - u).abs().min()) > 0
    many = keyed_uniforms(range(4000), 2, 1, seed=1)[0]  # the shifts themselves
    assert bool(((many.mean(0) - 0.5).abs() < 4 / (12 * 4000) ** 0.5).all())
    assert abs(float(torch.corrcoef(many.T)[0, 1])) < 4 / 4000**0.5
    assert abs(float(torch.corrcoef(many[:, 0].reshape(-1, 2).T)[0, 1])) < 4 / 2000**0.5


def test_in_very_many_dimensions_draws_are_random() -> None:
    """Scrambling would cost more than it saves; fewer dimensions stay quasi-random."""
    drawn = sobol_gaussian(2, MOST_DIMENSIONS + 1, 4, np.random.default_rng(3))
    plain = np.random.default_rng(3).standard_normal((4, 2, MOST_DIMENSIONS + 1))
    assert torch.equal(drawn, torch.from_numpy(plain))
    few = sobol_gaussian(1, 3, 64, np.random.default_rng(3))[:, 0]
    uniform = 0.5 * (1 + torch.erf(few / math.sqrt(2)))
    counts = torch.stack([(64 * uniform[:, j]).long().bincount(minlength=64) for j in range(3)])
    assert bool((counts == 1).all())  # one in each of 64 parts
