"""Newton's method by differences of a gradient: minima, saddles, valleys of rotations."""

from __future__ import annotations

import numpy as np
import pytest

from dgmm.numerics.newton import descend


def banana(x: np.ndarray) -> tuple[float, np.ndarray]:
    """Rosenbrock's function, least at (1, 1)."""
    bent = x[1] - x[0] ** 2
    slope = np.array([-400 * x[0] * bent - 2 * (1 - x[0]), 200 * bent])
    return 100 * bent**2 + (1 - x[0]) ** 2, slope


def wells(x: np.ndarray) -> tuple[float, np.ndarray]:
    """(x^2 - 1)^2 + y^2: a saddle at zero, minima at x = -1 and 1."""
    square = x[0] ** 2 - 1
    return square**2 + x[1] ** 2, np.array([4 * x[0] * square, 2 * x[1]])


def test_it_follows_a_bent_valley_to_its_end() -> None:
    found = descend(banana, np.array([-1.2, 1.0]), 1e-8)
    np.testing.assert_allclose(found.x, 1.0, atol=1e-7)
    assert found.decrement < 1e-8


def test_it_leaves_a_saddle() -> None:
    found = descend(wells, np.array([0.05, 0.4]), 1e-8)
    np.testing.assert_allclose(found.x, [1.0, 0.0], atol=1e-7)


def test_the_decrement_is_what_is_left_in_standard_errors() -> None:
    H = np.array([[4.0, 1.0], [1.0, 9.0]])

    def bowl(x: np.ndarray) -> tuple[float, np.ndarray]:
        return float(0.5 * x @ H @ x), H @ x

    found = descend(bowl, np.array([3.0, -2.0]), np.inf)
    assert found.decrement == pytest.approx(np.sqrt(np.array([3, -2]) @ H @ np.array([3, -2])))
    assert found.evaluations == 5
    weak = descend(bowl, np.array([3.0, -2.0]), np.inf, np.array([1e6, 0.0]))
    assert weak.decrement < found.decrement  # a parameter that is known already has little left
