"""Searches of objectives that have no value everywhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize

from dgmm.numerics.walled import Walled


def beside_a_hole(z: np.ndarray) -> tuple[float, np.ndarray]:
    """(z - 0.4)^2 / 2 after a first slope of 40; no value beyond z = 0.5."""
    if z[0] > 0.5:
        raise np.linalg.LinAlgError("P is not positive definite")
    return 50 * float((z[0] - 0.4) ** 2), 100 * (z - 0.4)


def without_bound(z: np.ndarray) -> tuple[float, np.ndarray]:
    try:
        return beside_a_hole(z)
    except np.linalg.LinAlgError:
        return 1e300, np.zeros_like(z)


def climbed(objective: object) -> optimize.OptimizeResult:
    return optimize.minimize(objective, np.zeros(1), jac=True, method="L-BFGS-B")


def test_searches_get_past_a_step_too_far() -> None:
    assert climbed(Walled(beside_a_hole)).x == pytest.approx(0.4, abs=1e-6)
    assert climbed(without_bound).x == pytest.approx(0.0, abs=1e-6)  # and says it has converged


def test_the_wall_is_a_height_above_the_start() -> None:
    walled = Walled(beside_a_hole, worse=3.0)
    assert walled(np.ones(1))[0] == 1e300  # nothing is known yet
    assert walled(np.zeros(1))[0] == pytest.approx(8.0)
    assert walled(np.full(1, 0.2))[0] == pytest.approx(2.0)
    value, slope = walled(np.ones(1))
    assert value == pytest.approx(11.0)
    assert not slope.any()
    assert walled(np.full(1, math.nan))[0] == pytest.approx(11.0)
    assert Walled(beside_a_hole, 3.0, start=1.0)(np.ones(1))[0] == pytest.approx(4.0)


def test_a_capped_wall_hides_what_stands_higher() -> None:
    far = np.full(1, -1.0)
    for capped, value in ((False, 98.0), (True, 11.0)):
        walled = Walled(beside_a_hole, worse=3.0, capped=capped)
        walled(np.zeros(1))
        assert walled(far)[0] == pytest.approx(value)
