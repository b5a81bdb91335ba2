"""Orthonormal columns, and bases sorted by roughness."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dgmm.numerics.bases import FREE, smooth_first, whitening

TIME = torch.from_numpy(np.random.default_rng(4).uniform(0, 3, 400))


def powers(degree: int) -> torch.Tensor:
    """Legendre polynomials: powers without their collinearity."""
    columns = np.polynomial.legendre.legvander(TIME.numpy() / 1.5 - 1, degree)
    return torch.from_numpy(columns)


def gram(columns: torch.Tensor) -> np.ndarray:
    return (columns.T @ columns / len(columns)).numpy()


def test_whitening_is_symmetric_and_makes_columns_orthonormal() -> None:
    T = powers(3)
    K = whitening(T)
    assert K.numpy() == pytest.approx(K.T.numpy(), abs=1e-9)
    assert gram(T @ K) == pytest.approx(np.eye(4), abs=1e-7)


def test_columns_are_orthogonal_and_shrink_with_their_roughness() -> None:
    phi = powers(7)
    S = smooth_first(phi, TIME)
    G = gram(phi @ S)
    assert pytest.approx(np.diag(np.diag(G)), abs=1e-5) == G
    size = np.diag(G)
    assert np.all(np.diff(size) <= 1e-9)
    assert size[FREE] == pytest.approx(0.5, abs=1e-6)


def test_level_and_trend_come_first_at_no_price() -> None:
    phi = powers(7)
    smooth = (phi @ smooth_first(phi, TIME))[:, :2]
    straight = powers(1)
    fitted = straight @ torch.linalg.lstsq(straight, smooth).solution
    assert (smooth - fitted).abs().max() < 1e-5
    assert np.diag(gram(smooth)) == pytest.approx(np.ones(2), abs=1e-5)


def test_the_scale_of_time_does_not_matter() -> None:
    phi = powers(6)
    hours, days = phi @ smooth_first(phi, 24 * TIME), phi @ smooth_first(phi, TIME)
    # level and trend may turn into each other
    assert (hours @ hours.T).numpy() == pytest.approx((days @ days.T).numpy(), abs=1e-6)


def test_without_a_time_or_with_few_columns_they_are_orthonormal_only() -> None:
    assert gram(powers(7) @ smooth_first(powers(7), None)) == pytest.approx(np.eye(8), abs=1e-4)
    assert gram(powers(2) @ smooth_first(powers(2), TIME)) == pytest.approx(np.eye(3), abs=1e-8)


def test_fewer_times_than_columns_say_nothing_of_roughness() -> None:
    time = torch.arange(5.0, dtype=torch.float64).repeat(20)
    phi = torch.stack([torch.cos(j * time) for j in range(6)], dim=1)
    S = smooth_first(phi, time)
    assert torch.isfinite(S).all()
