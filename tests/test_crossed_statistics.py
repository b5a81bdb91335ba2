"""Derivatives, information and moments of crossed factors against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
from toys import build, crossed_frame

from dgmm.likelihood.crossed_statistics import (
    CrossedPieces,
    CrossedStatistics,
    crossed_statistics,
    moments,
)
from dgmm.likelihood.sufficient import profiled_deviance, profiled_hessian
from dgmm.model import Model
from dgmm.panel import Panel

TERMS = ("(1 | a) + (1 | b)", "(1 | a / c)", "(x | a) + (t | b)", "(1 | a / c) + (x || b)")


def made(terms: str) -> tuple[Model, Panel, CrossedStatistics, np.ndarray]:
    """A model with weights, its statistics, and some entries of Lambda."""
    model, panel = build(f"y ~ x + {terms}", crossed_frame(), unit=0.7, weights="w")
    stats = crossed_statistics(model, panel)
    entries = np.random.default_rng(2).uniform(0.3, 0.9, len(stats.pattern.row))
    return model, panel, stats, np.where(stats.pattern.on_diagonal, entries, entries - 0.6)


def columns_by_effect(model: Model, panel: Panel) -> list[tuple[int, np.ndarray]]:
    """Of each column of Lambda its factor and W^(1/2) Z (N, m), in units of the model."""
    assert panel.crossing is not None
    rows, found = panel.rows, []
    T = model.columns(rows).numpy() / model.unit
    root = np.sqrt(rows.data.weights.numpy())
    factors = [
        panel.crossing.factor[i] for i, one in enumerate(model.latents) for _ in range(one.dim)
    ]
    for column, f in enumerate(factors):
        one_hot = np.eye(len(panel.crossing.labels[f]))[rows.level[f].numpy()]
        found.append((f, (root * T[:, column])[:, None] * one_hot))
    return found


def covariance(Z: list[tuple[int, np.ndarray]], Lambda: np.ndarray) -> np.ndarray:
    """I + sum over factors of Z Lambda Lambda'Z'."""
    D, V = Lambda @ Lambda.T, np.eye(len(Z[0][1]))
    for i, (f, left) in enumerate(Z):
        for k, (g, right) in enumerate(Z):
            if f == g:
                V += D[i, k] * left @ right.T
    return V


def fixed(model: Model, panel: Panel) -> tuple[np.ndarray, np.ndarray]:
    """W^(1/2) X, and W^(1/2) y in units of the model."""
    rows = panel.rows
    root = np.sqrt(rows.data.weights.numpy())
    return root[:, None] * rows.X.numpy(), root * (rows.data.y - rows.offset).numpy() / model.unit


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("terms", TERMS)
def test_the_average_information_is_that_of_dense_matrices(terms: str, reml: bool) -> None:
    model, panel, stats, entries = made(terms)
    fill, Z, h = stats.pattern.fill, columns_by_effect(model, panel), 1e-4
    X, y = fixed(model, panel)
    inverse = np.linalg.inv(covariance(Z, fill(entries)))
    P = inverse - inverse @ X @ np.linalg.solve(X.T @ inverse @ X, X.T @ inverse)
    rss, df = y @ P @ y, len(y) - reml * X.shape[1]
    slopes = [  # V is quadratic in the entries
        (covariance(Z, fill(entries + u)) - covariance(Z, fill(entries - u))) / (2 * h)
        for u in h * np.eye(len(entries))
    ]
    w = np.array([slope @ P @ y for slope in slopes])
    wanted = (w @ P @ w.T - np.outer(w @ P @ y, w @ P @ y) / rss) * df / rss
    at = profiled_deviance(stats, entries, reml)
    assert isinstance(at.found, CrossedPieces)
    found = at.found.average_information(at.v, at.rss, reml)
    np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-8 * np.abs(wanted).max())


def test_what_pulls_a_variance_to_zero_is_the_slope_in_it() -> None:
    *_, stats, _ = made("(1 | a) + (1 | b)")
    signs = set()
    for entries in np.array([[0.1, 3.0], [3.0, 0.1], [2.0, 2.0]]):
        at = profiled_deviance(stats, entries, restricted=False)
        assert isinstance(at.found, CrossedPieces)
        slope = at.gradient / entries  # twice that in the variance
        signs |= set(np.sign(slope))
        found = at.found.pull(at.v, stats.N / at.rss)
        np.testing.assert_allclose(found, np.diag(np.maximum(slope, 0.0)), atol=1e-9)
    assert signs == {-1.0, 1.0}


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("terms", TERMS)
def test_second_derivatives_are_those_of_the_deviance(terms: str, reml: bool) -> None:
    *_, stats, entries = made(terms)
    found = profiled_hessian(stats, profiled_deviance(stats, entries, reml), reml)
    h = 1e-5
    numeric = [
        (
            profiled_deviance(stats, entries + u, reml).gradient
            - profiled_deviance(stats, entries - u, reml).gradient
        )
        / (2 * h)
        for u in h * np.eye(len(entries))
    ]
    np.testing.assert_allclose(found, numeric, atol=1e-5 * np.abs(numeric).max())


@pytest.mark.parametrize("terms", TERMS)
def test_the_slope_of_the_precision_of_beta_is_its_derivative(terms: str) -> None:
    *_, stats, entries = made(terms)
    pattern, p, h = stats.pattern, stats.p, 1e-5
    found = stats.reduce(pattern.fill(entries)).coefficient_slope[pattern.row, pattern.column]
    for own, u in zip(found, h * np.eye(len(entries)), strict=True):
        up, down = (stats.reduce(pattern.fill(entries + s * u)).S[:p, :p] for s in (1, -1))
        np.testing.assert_allclose(own, (up - down) / (2 * h), atol=1e-7)


def test_moments_solve_the_equations_of_dense_matrices() -> None:
    model, panel, stats, _ = made("(1 | a) + (1 | b)")
    X, y = fixed(model, panel)
    r = y - X @ np.linalg.lstsq(X, y, rcond=None)[0]
    parts = [Z @ Z.T for _, Z in columns_by_effect(model, panel)] + [np.eye(len(y))]
    system = [[(left * right).sum() for right in parts] for left in parts]
    variance = np.linalg.solve(system, [r @ part @ r for part in parts])
    np.testing.assert_allclose(moments(stats) ** 2, variance[:2] / variance[2], rtol=1e-8)


def test_a_point_that_is_asked_for_again_is_not_calculated_again() -> None:
    *_, stats, entries = made("(1 | a) + (1 | b)")
    Lambda = stats.pattern.fill(entries)
    first = stats.reduce(Lambda)
    wanted = first.slope(np.ones(stats.p + 1), 1.0, restricted=False)
    assert stats.reduce(Lambda * (1 + 1e-15)) is first
    stats.reduce(2 * Lambda)
    stats.forget()
    again = stats.reduce(Lambda)
    assert again is not first
    found = again.slope(np.ones(stats.p + 1), 1.0, restricted=False)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
