"""The dense twins themselves against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from dense import Grid, Laplace, Normal, condition, newton_mode
from scipy import stats
from torch import Tensor


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def spd(n: int, seed: int = 0) -> Tensor:
    A = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, n)))
    return A @ A.T + n * torch.eye(n, dtype=torch.float64)


def one_way(n: int = 4, J: int = 5) -> tuple[Tensor, Normal]:
    """y_ij = mu + u_i + e_ij in x = (mu, log SD u, log SD e), balanced."""
    y = torch.from_numpy(np.random.default_rng(1).normal(size=n * J)) + 1.0
    same = torch.block_diag(*[torch.ones(J, J, dtype=torch.float64)] * n)
    eye = torch.eye(n * J, dtype=torch.float64)

    def moments(x: Tensor) -> tuple[Tensor, Tensor]:
        return x[0].expand(n * J), torch.exp(2 * x[1]) * same + torch.exp(2 * x[2]) * eye

    return y.reshape(n, J), Normal(y, moments, tuple(torch.arange(n * J).split(J)))


# -- the normal density --------------------------------------------------------------------------


def test_the_log_density_is_scipys() -> None:
    V, mean, y = spd(6), torch.arange(6.0, dtype=torch.float64), torch.ones(6, dtype=torch.float64)
    found = Normal(y, lambda x: (mean, V)).total(tensor(0.0))
    assert float(found) == pytest.approx(stats.multivariate_normal(mean, V).logpdf(y), abs=1e-12)


def test_derivatives_in_the_mean_are_those_of_a_quadratic() -> None:
    V, y = spd(5), torch.arange(5.0, dtype=torch.float64)
    twin, x = Normal(y, lambda x: (x, V)), torch.ones(5, dtype=torch.float64)
    torch.testing.assert_close(twin.gradient(x), torch.linalg.solve(V, y - x))
    torch.testing.assert_close(twin.hessian(x), -torch.linalg.inv(V))


def test_derivatives_in_a_variance_are_those_of_independent_outcomes() -> None:
    y, v = tensor(1.0, -2.0, 0.5), 1.7
    twin = Normal(y, lambda x: (torch.zeros_like(y), x[0] * torch.eye(3, dtype=torch.float64)))
    rss = float(y @ y)
    assert float(twin.gradient(tensor(v))) == pytest.approx(-3 / (2 * v) + rss / (2 * v**2))
    assert float(twin.hessian(tensor(v))) == pytest.approx(3 / (2 * v**2) - rss / v**3)
    by_row = Normal(y, twin.moments, tuple(torch.arange(3).split(1)))
    each = -1 / (2 * v) + y.square() / (2 * v**2)
    torch.testing.assert_close(by_row.scores(tensor(v))[:, 0], each)


def test_a_balanced_one_way_layout_has_its_closed_form() -> None:
    """V_i has eigenvalue J s_u^2 + s_e^2 once and s_e^2 J - 1 times."""
    y, twin = one_way()
    (n, J), x = y.shape, tensor(0.7, -0.2, 0.1)
    su, se = math.exp(2 * -0.2), math.exp(2 * 0.1)
    centre = y.mean(1)
    within, between = (y - centre[:, None]).square().sum(1), J * (centre - 0.7).square()
    log_det = math.log(J * su + se) + (J - 1) * math.log(se)
    each = -0.5 * (J * math.log(2 * math.pi) + log_det + within / se + between / (J * su + se))
    torch.testing.assert_close(twin.each(x), each)
    assert float(twin.total(x)) == pytest.approx(float(each.sum()), abs=1e-11)
    by_mean = J * (centre - 0.7) / (J * su + se)
    torch.testing.assert_close(twin.scores(x)[:, 0], by_mean)
    torch.testing.assert_close(twin.scores(x).sum(0), twin.gradient(x))
    assert float(twin.hessian(x)[0, 0]) == pytest.approx(-n * J / (J * su + se))


def test_the_posterior_of_an_intercept_shrinks_the_mean_residual() -> None:
    y, twin = one_way()
    (n, J), x = y.shape, tensor(0.7, -0.2, 0.1)
    su, se = math.exp(2 * -0.2), math.exp(2 * 0.1)
    level = torch.repeat_interleave(torch.eye(n, dtype=torch.float64), J, dim=1)
    prior = su * torch.eye(n, dtype=torch.float64)
    mean, covariance = condition(twin.y, *twin.moments(x), prior, su * level)
    torch.testing.assert_close(mean, J * su / (J * su + se) * (y.mean(1) - 0.7))
    expected = su * se / (J * su + se) * torch.eye(n, dtype=torch.float64)
    torch.testing.assert_close(covariance, expected)


def test_an_ornstein_uhlenbeck_path_is_a_product_of_its_transitions() -> None:
    time, y = tensor(0.0, 0.3, 1.1, 4.0), tensor(0.2, -0.4, 1.0, 0.3)
    lag = (time[:, None] - time).abs()
    found = Normal(y, lambda x: (torch.zeros(4, dtype=torch.float64), torch.exp(-lag / x[0])))
    keep = torch.exp(-time.diff() / 1.5)
    values = stats.norm.logpdf(y[0]) + stats.norm.logpdf(
        y[1:], keep * y[:-1], (1 - keep.square()).sqrt()
    ).sum(0)
    assert float(found.total(tensor(1.5))) == pytest.approx(float(values), abs=1e-12)


def test_a_subject_without_outcomes_contributes_nothing() -> None:
    _, twin = one_way()
    more = Normal(twin.y, twin.moments, (*twin.groups, torch.zeros(0, dtype=torch.long)))
    x = tensor(0.7, -0.2, 0.1)
    assert float(more.each(x)[-1]) == 0.0
    assert float(more.scores(x)[-1].abs().max()) == 0.0


# -- Laplace -------------------------------------------------------------------------------------


def test_laplace_is_exact_for_normal_outcomes() -> None:
    y, twin = one_way()
    n, J = y.shape

    def log_joint(x: Tensor, u: Tensor) -> Tensor:
        error = (y - x[0] - torch.exp(x[1]) * u[:, None]) / torch.exp(x[2])
        square = error.square().sum() + u.square().sum()
        return -0.5 * (square + n * (J + 1) * math.log(2 * math.pi)) - n * J * x[2]

    laplace, x = Laplace((log_joint,), n), tensor(0.7, -0.2, 0.1)
    assert float(laplace.total(x)) == pytest.approx(float(twin.total(x)), abs=1e-11)
    torch.testing.assert_close(laplace.gradient(x), twin.gradient(x))
    torch.testing.assert_close(laplace.hessian(x), twin.hessian(x))
    su, se = math.exp(2 * -0.2), math.exp(2 * 0.1)
    b = J * math.sqrt(su) / (J * su + se) * (y.mean(1) - 0.7)
    torch.testing.assert_close(laplace.modes(x)[0], b)
    expected = se / (J * su + se) * torch.eye(n, dtype=torch.float64)
    torch.testing.assert_close(laplace.covariances(x)[0], expected)


def test_laplace_of_a_gamma_integral_is_stirlings_formula() -> None:
    """log int exp(a u - c e^u) du ~ a log(a / c) - a + 1/2 log(2 pi / a), all derivatives too."""
    laplace = Laplace((lambda x, u: (x[0] * u - x[1] * u.exp()).sum(),), 1)
    a, c = 3.0, 2.0
    x = tensor(a, c)
    value = a * math.log(a / c) - a + 0.5 * math.log(2 * math.pi / a)
    assert float(laplace.total(x)) == pytest.approx(value, abs=1e-12)
    slope = tensor(math.log(a / c) - 1 / (2 * a), -a / c)
    torch.testing.assert_close(laplace.gradient(x), slope)
    curvature = torch.stack([tensor(1 / a + 1 / (2 * a**2), -1 / c), tensor(-1 / c, a / c**2)])
    torch.testing.assert_close(laplace.hessian(x), curvature)


def test_laplace_of_independent_parts_is_a_sum() -> None:
    y, twin = one_way()
    J = y.shape[1]

    def part(i: int) -> Callable[[Tensor, Tensor], Tensor]:
        def log_joint(x: Tensor, u: Tensor) -> Tensor:
            error = (y[i] - x[0] - torch.exp(x[1]) * u) / torch.exp(x[2])
            square = error.square().sum() + u @ u
            return -0.5 * (square + (J + 1) * math.log(2 * math.pi)) - J * x[2]

        return log_joint

    laplace, x = Laplace(tuple(part(i) for i in range(len(y))), 1), tensor(0.7, -0.2, 0.1)
    torch.testing.assert_close(laplace.each(x), twin.each(x))
    torch.testing.assert_close(laplace.scores(x), twin.scores(x))
    torch.testing.assert_close(laplace.hessian(x), twin.hessian(x))


def test_the_mode_of_a_skewed_density_is_found_from_far() -> None:
    found = newton_mode(lambda u: (50.0 * u - 1e-6 * u.exp()).sum(), 1)
    assert float(found) == pytest.approx(math.log(50.0 / 1e-6), abs=1e-10)


# -- the grid ------------------------------------------------------------------------------------


def probit(sign: Tensor, scale: float) -> Grid:
    """Outcomes sign (n, J) in {-1, 1} with P(sign) = Phi(sign (x + scale b))."""

    def log_likelihood(x: Tensor, b: Tensor) -> Tensor:
        eta = x[0] + scale * b[:, :1, None]
        return torch.special.log_ndtr(sign * eta).sum(-1)

    return Grid(log_likelihood, 1)


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.5])
def test_one_probit_outcome_is_a_probit_of_a_smaller_coefficient(scale: float) -> None:
    x, root = tensor(0.8), math.sqrt(1 + scale**2)
    twin = probit(torch.ones(1, 1, dtype=torch.float64), scale)
    assert float(twin.total(x)) == pytest.approx(stats.norm.logcdf(0.8 / root), abs=1e-12)
    hazard = math.exp(stats.norm.logpdf(0.8 / root) - stats.norm.logcdf(0.8 / root))
    assert float(twin.gradient(x)) == pytest.approx(hazard / root, abs=1e-12)
    curvature = -hazard * (0.8 / root + hazard) / root**2
    assert float(twin.hessian(x)) == pytest.approx(curvature, abs=1e-12)
    mean, variance = twin.moments(x)
    shift = scale / root * hazard
    assert float(mean) == pytest.approx(shift, abs=1e-12)
    expected = 1 - scale**2 / root**2 * hazard * (0.8 / root + hazard)
    assert float(variance) == pytest.approx(expected, abs=1e-12)


def test_two_probit_outcomes_are_an_orthant() -> None:
    """P(1, 1) = 1/4 + arcsin(rho) / (2 pi) at zero, rho = s^2 / (1 + s^2)."""
    sign = torch.stack([tensor(1.0, 1.0), tensor(1.0, -1.0)])
    found = probit(sign, 1.5).each(tensor(0.0)).exp()
    turn = math.asin(1.5**2 / (1 + 1.5**2)) / (2 * math.pi)
    torch.testing.assert_close(found, tensor(0.25 + turn, 0.25 - turn))


@pytest.mark.parametrize("k", [1, 2])
def test_the_grid_is_exact_for_normal_outcomes(k: int) -> None:
    rng = np.random.default_rng(3)
    y, Z = torch.from_numpy(rng.normal(size=(4, 3))), torch.from_numpy(rng.normal(size=(4, 3, k)))

    def log_likelihood(x: Tensor, b: Tensor) -> Tensor:
        error = y - x[0] - torch.exp(x[1]) * torch.einsum("njk,mk->mnj", Z, b)
        return -0.5 * (error.square().sum(-1) + 3 * math.log(2 * math.pi))

    def moments(x: Tensor) -> tuple[Tensor, Tensor]:
        wide = torch.block_diag(*Z) * torch.exp(x[1])
        return x[0].expand(12), wide @ wide.T + torch.eye(12, dtype=torch.float64)

    grid, x = Grid(log_likelihood, k), tensor(0.3, -0.2)
    normal = Normal(y.reshape(-1), moments, tuple(torch.arange(12).split(3)))
    torch.testing.assert_close(grid.each(x), normal.each(x), atol=1e-11, rtol=0)
    torch.testing.assert_close(grid.scores(x), normal.scores(x), atol=1e-10, rtol=0)
    torch.testing.assert_close(grid.hessian(x), normal.hessian(x), atol=1e-10, rtol=0)
    wide = torch.block_diag(*Z) * torch.exp(x[1])
    prior = torch.eye(4 * k, dtype=torch.float64)
    mean, covariance = condition(normal.y, *normal.moments(x), prior, wide.T)
    found, spread = grid.moments(x)
    torch.testing.assert_close(found.reshape(-1), mean, atol=1e-11, rtol=0)
    torch.testing.assert_close(torch.block_diag(*spread), covariance, atol=1e-11, rtol=0)
