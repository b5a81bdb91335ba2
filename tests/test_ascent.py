"""Maximisation in standard-error units."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from dgmm.numerics.ascent import MOST, Evaluation, ascend


class Quadratic:
    """l(x) = -1/2 (x - m)'A(x - m) with scores of two hundred subjects that sum to its gradient."""

    def __init__(self, scale: np.ndarray) -> None:
        rng = np.random.default_rng(0)
        noise = rng.normal(size=(200, len(scale)))
        noise -= noise.mean(0)
        self.noise, self.kept = noise * np.sqrt(scale / 200), 0
        self.A = self.noise.T @ self.noise
        self.m = np.arange(len(scale), dtype=float)

    def value_and_gradient(self, x: np.ndarray, scores: bool = False) -> Evaluation:
        gradient = -self.A @ (x - self.m)
        each = self.noise + gradient / 200
        value = -0.5 * float((x - self.m) @ self.A @ (x - self.m))
        return Evaluation(value, gradient, each if scores else None)

    def information(self, x: np.ndarray, scores: np.ndarray) -> np.ndarray:
        return scores.T @ scores

    def keep(self) -> None:
        self.kept += 1

    def least_information(self, x: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
        return np.zeros_like(x)


def test_badly_scaled_parameters_take_a_few_steps() -> None:
    surface = Quadratic(np.array([1e-6, 1.0, 1e8]))
    start = np.array([3000.0, -4.0, 2.001])
    found = ascend(surface, start, tolerance=1e-6)
    np.testing.assert_allclose(found.x, surface.m, atol=1e-2, rtol=1e-6)
    assert found.decrement < 1e-6
    assert found.evaluations < 25


def test_the_decrement_is_in_standard_errors() -> None:
    surface = Quadratic(np.array([4.0]))
    se = 1 / np.sqrt(surface.A[0, 0])
    found = ascend(surface, surface.m + 0.5 * se, tolerance=1.0)
    assert found.decrement == pytest.approx(0.5, rel=0.01)


def test_an_overflow_at_the_start_is_said() -> None:
    class Broken(Quadratic):
        def value_and_gradient(self, x: np.ndarray, scores: bool = False) -> Evaluation:
            return Evaluation(np.nan, np.zeros(1), np.zeros((1, 1)))

    with pytest.raises(FloatingPointError, match="not finite at the starting values"):
        ascend(Broken(np.ones(1)), np.zeros(1), tolerance=1e-3)


class Rising(Quadratic):
    """l(x) = x: no maximum, and one unit is one standard error wherever one stands."""

    def value_and_gradient(self, x: np.ndarray, scores: bool = False) -> Evaluation:
        return Evaluation(float(x[0]), np.ones(1), np.ones((1, 1)) if scores else None)


def test_a_search_without_an_end_ends() -> None:
    found = ascend(Rising(np.ones(1)), np.zeros(1), tolerance=1e-3, rounds=10_000)
    assert found.decrement == pytest.approx(1.0)  # and is not called near
    assert MOST <= found.evaluations < MOST + 62


class Steep(Rising):
    """Scores whose squares overflow: a step that is refused in silence."""

    def value_and_gradient(self, x: np.ndarray, scores: bool = False) -> Evaluation:
        slope = np.full(1, 1e200)
        return Evaluation(float(x[0]), slope, slope[None] if scores else None)


def test_an_overflow_is_an_error_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FloatingPointError, match="not finite"):
            ascend(Steep(np.ones(1)), np.zeros(1), tolerance=1e-3)


def test_steps_may_lead_along_a_curve() -> None:
    """exp(z) in place of x: a maximum of x log-quadratic in x is found by steps of z."""

    class Bent(Quadratic):
        def value_and_gradient(self, x: np.ndarray, scores: bool = False) -> Evaluation:
            seen.append(float(x[0]))
            return super().value_and_gradient(x, scores)

    seen: list[float] = []
    surface = Bent(np.array([4.0]))
    surface.m = np.array([2.0])
    start = np.array([1.0])
    found = ascend(surface, start, tolerance=1e-6, along=lambda x, step: x * np.exp(step / x))
    assert found.x[0] == pytest.approx(2.0, abs=1e-5)
    assert seen[1] == pytest.approx(np.exp(1.0), rel=0.03)
