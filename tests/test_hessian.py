"""Central differences against functions whose Hessian is known."""

from __future__ import annotations

import numpy as np
import pytest

from dgmm.numerics.hessian import central_hessian, central_jacobian, invert

RNG = np.random.default_rng(1)
ROOT = RNG.normal(size=(4, 4))
H = ROOT @ ROOT.T + np.eye(4)
CENTRE = RNG.normal(size=4)
STEP = np.array([0.1, 0.2, 0.05, 0.3])


def quadratic(x: np.ndarray) -> float:
    return float(0.5 * (x - CENTRE) @ H @ (x - CENTRE))


def test_hessian_of_a_quadratic_is_exact() -> None:
    found = central_hessian(quadratic, np.zeros(4), STEP)
    np.testing.assert_allclose(found.matrix, H, atol=1e-9)
    assert found.asymmetry == 0.0


def test_jacobian_of_its_gradient_is_the_same_hessian() -> None:
    found = central_jacobian(lambda x: H @ (x - CENTRE), np.zeros(4), STEP)
    np.testing.assert_allclose(found.matrix, H, atol=1e-11)
    assert found.asymmetry < 1e-12


def test_error_falls_with_the_square_of_the_step() -> None:
    def f(x: np.ndarray) -> float:
        return float(np.exp(x[0] + 2 * x[1]))

    exact = np.array([[1.0, 2.0], [2.0, 4.0]])
    errors = [
        np.abs(central_hessian(f, np.zeros(2), np.full(2, h)).matrix - exact).max()
        for h in (0.1, 0.05)
    ]
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.05)


def test_asymmetry_of_an_inconsistent_gradient_is_reported() -> None:
    G = np.array([[2.0, 1.0], [0.5, 2.0]])
    found = central_jacobian(lambda x: G @ x, np.zeros(2), np.full(2, 0.1))
    assert found.asymmetry == pytest.approx(0.25)
    np.testing.assert_allclose(found.matrix, 0.5 * (G + G.T), atol=1e-12)


def test_smallest_eigenvalue_is_free_of_the_units() -> None:
    scale = np.diag([1.0, 1e4])
    correlation = np.array([[1.0, 0.6], [0.6, 1.0]])
    found = central_jacobian(
        lambda x: scale @ correlation @ scale @ x, np.zeros(2), np.array([1.0, 1e-4])
    )
    assert found.smallest_eigenvalue == pytest.approx(0.4, abs=1e-8)


def test_an_indefinite_matrix_shows_a_negative_eigenvalue() -> None:
    found = central_hessian(lambda x: float(x[0] * x[1]), np.zeros(2), np.full(2, 0.1))
    assert found.smallest_eigenvalue < 0


def test_number_of_evaluations() -> None:
    calls = []

    def counted(x: np.ndarray) -> float:
        calls.append(1)
        return quadratic(x)

    central_hessian(counted, np.zeros(4), STEP)
    assert len(calls) == 2 * 4**2 + 1


def test_no_parameters_give_an_empty_matrix() -> None:
    found = central_hessian(lambda x: 1.0, np.zeros(0), np.zeros(0))
    assert found.matrix.shape == (0, 0)
    assert found.smallest_eigenvalue == np.inf


def test_invert_of_badly_scaled_matrices() -> None:
    scale = np.array([1e-6, 1.0, 1e3, 1e6])
    found = invert(H * scale[:, None] * scale)
    expected = np.linalg.inv(H) / scale[:, None] / scale
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(found, found.T, rtol=1e-14)
