"""Newton's method by differences of a gradient: minima, saddles, valleys of rotations."""

from __future__ import annotations

import numpy as np
import pytest

from dgmm.numerics.newton import Evaluations, descend, descend_each


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


def many_wells(x: np.ndarray, at: np.ndarray) -> Evaluations:
    """(x^2 - c)^2 + c y^2, c = 1, 2, ...: minima at x = -root(c) and root(c)."""
    c = 1.0 + at
    square = x[:, 0] ** 2 - c
    hessian = np.zeros((len(x), 2, 2))
    hessian[:, 0, 0], hessian[:, 1, 1] = 12 * x[:, 0] ** 2 - 4 * c, 2 * c
    gradient = np.stack([4 * x[:, 0] * square, 2 * c * x[:, 1]], axis=1)
    return Evaluations(square**2 + c * x[:, 1] ** 2, gradient, hessian)


def test_many_objectives_reach_a_minimum_each() -> None:
    start = np.array([[0.05, 0.4], [-3.0, 1.0], [np.sqrt(3.0), 0.0], [1e3, -1e3]])
    found = descend_each(many_wells, start, 1e-6)
    wanted = np.sqrt([1.0, 2.0, 3.0, 4.0]) * [1, -1, 1, 1]
    np.testing.assert_allclose(found.x[:, 0], wanted, atol=1e-9)
    np.testing.assert_allclose(found.x[:, 1], 0.0, atol=1e-9)
    assert found.reached.all()
    assert (found.decrement < 1e-5).all()
    assert found.evaluations[2] == 1  # it began at its minimum
    alone = [descend_each(lambda x, _, i=i: many_wells(x, np.array([i])), start[[i]], 1e-6)
             for i in range(4)]  # fmt: skip
    np.testing.assert_array_equal(np.concatenate([one.x for one in alone]), found.x)


def test_one_without_a_minimum_stops_no_other() -> None:
    def objective(x: np.ndarray, at: np.ndarray) -> Evaluations:
        found = many_wells(x, at)
        found.value[at == 1] = np.nan
        return found

    found = descend_each(objective, np.full((3, 2), 0.7), 1e-6)
    np.testing.assert_allclose(found.x[[0, 2], 0], np.sqrt([1.0, 3.0]), atol=1e-9)
    assert found.reached.tolist() == [True, False, True]
