"""Tests of statistics at an estimate: closed forms of what an estimate takes up."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from dgmm.diagnostics.testing import Penalty, Units, legendre, moment_test


def normal_points(size: int = 500_000) -> np.ndarray:
    """Quantiles of the normal distribution: its moments without noise."""
    return np.asarray(special.ndtri((np.arange(size) + 0.5) / size))


def test_the_polynomials_are_orthonormal() -> None:
    """Gauss-Legendre with ten points is exact for their products."""
    x, w = np.polynomial.legendre.leggauss(10)
    P = np.column_stack([np.ones(10), legendre(0.5 * (x + 1))])
    assert np.allclose(P.T @ (0.5 * w[:, None] * P), np.eye(5), atol=1e-13)


def test_without_scores_it_is_the_test_of_a_mean() -> None:
    """F = T^2 / (n v), v the second moment of the known units."""
    H = np.random.default_rng(0).normal(2, 3, size=(50, 1))
    found = moment_test(np.array([40.0]), 25, Units(H, np.zeros((50, 0))))
    value = 40.0**2 / 25 / np.square(H).mean()
    assert found.df == 1
    assert found.statistic == pytest.approx(value, rel=1e-10)
    assert found.p == pytest.approx(stats.f.sf(value, 1, 50), rel=1e-10)


def test_an_estimate_takes_up_what_its_scores_show() -> None:
    """Of normal z with mean and variance estimated sum z^3 has the variance 6 n and not 15 n."""
    z = normal_points()
    scores = np.column_stack([z, z**2 - 1])
    known = Units(z[:, None] ** 3, scores)
    assert moment_test(np.array([60.0]), 100, known).statistic == pytest.approx(6.0, rel=0.01)
    whole = moment_test(np.array([60.0]), 100, Units(z[:, None] ** 3, np.zeros((len(z), 0))))
    assert whole.statistic == pytest.approx(60.0**2 / 1500, rel=0.01)


def test_a_direction_that_is_taken_up_whole_says_nothing() -> None:
    z = normal_points()
    scores = np.column_stack([z, z**2 - 1])
    assert moment_test(np.array([9.0]), 100, Units(z[:, None], scores)).df == 0
    both = Units(np.column_stack([z, z**4 - 6 * z**2 + 3]), scores)
    found = moment_test(np.array([9.0, 49.0]), 100, both)
    assert found.df == 1
    assert found.statistic == pytest.approx(49**2 / 2400, rel=0.01)


def test_a_ridge_leaves_more_and_draws_away() -> None:
    """With K = penalty the estimate takes up (I + K)^-1 of the score: less, and the rest is more.

    H = 2 s + e with unit s and e: B = 2 / (1 + K), var(H - B s) = (2 - B)^2 + 1, K = 1 as n = 100.
    The slope g that the ridge leaves moves T by B g.
    """
    rng = np.random.default_rng(3)
    s, e = rng.normal(size=(2, 100_000, 1))
    known, ridge = Units(2 * s + e, s), np.array([100.0])
    found = moment_test(np.array([10.0]), 100, known, Penalty(ridge, np.zeros(1)))
    assert found.statistic == pytest.approx(1.0 / 2.0, rel=0.03)
    found = moment_test(np.array([10.0]), 100, known, Penalty(ridge, np.array([-20.0])))
    assert found.statistic == pytest.approx(30.0**2 / 100 / 2, rel=0.03)


def test_directions_that_a_ridge_holds_cost_no_degrees_of_freedom() -> None:
    """F over n - tr{(S'S + K)^-1 S'S}: of orthonormal scores P / (1 + K)."""
    rng = np.random.default_rng(5)
    basis = np.linalg.qr(rng.normal(size=(40, 31)))[0]
    scores, H = basis[:, :30], basis[:, 30:] * np.sqrt(40)
    found = moment_test(
        np.array([3.0]), 40, Units(H, scores), Penalty(np.full(30, 4.0), np.zeros(30))
    )
    free = 40 - 30 / 5
    assert found.statistic == pytest.approx(9.0 / 40 * free / 40, rel=1e-10)
    assert found.p == pytest.approx(stats.f.sf(9.0 / 40 * free / 40, 1, free), rel=1e-10)
