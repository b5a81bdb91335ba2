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


def test_directions_shrink_with_their_roughness() -> None:
    """The mean squares of phi S in its principal directions fall with the second derivative."""
    phi = powers(7)
    columns = phi @ smooth_first(phi, TIME)
    size, turn = np.linalg.eigh(gram(columns))
    size, smooth = size[::-1], columns.numpy() @ turn[:, ::-1]
    assert size[0] == pytest.approx(1.0, abs=1e-6)
    assert size[FREE] == pytest.approx(0.5, abs=1e-6)
    order = np.argsort(TIME.numpy())
    bends = np.gradient(np.gradient(smooth[order], axis=0), axis=0) / np.sqrt(size)
    rough = np.square(bends).sum(0)
    assert np.all(np.diff(rough[1:]) > 0)


def test_level_and_trend_are_free() -> None:
    phi = powers(7)
    columns = phi @ smooth_first(phi, TIME)
    # orthonormal functions with coefficients of length one
    level = torch.stack([torch.ones_like(TIME), (TIME - TIME.mean()) / TIME.std(correction=0)], 1)
    coefficient = torch.linalg.lstsq(columns, level).solution
    assert (columns @ coefficient - level).abs().max() < 1e-5
    assert coefficient.norm(dim=0).numpy() == pytest.approx(np.ones(2), abs=1e-5)


@pytest.mark.parametrize("scale", [24.0, 1e3, 1e-6])
def test_the_scale_of_time_does_not_matter(scale: float) -> None:
    phi = powers(6)
    one, other = smooth_first(phi, TIME), smooth_first(phi, scale * TIME)
    torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-9)


def test_without_a_time_or_with_few_columns_they_are_orthonormal_only() -> None:
    assert gram(powers(7) @ smooth_first(powers(7), None)) == pytest.approx(np.eye(8), abs=1e-4)
    assert gram(powers(2) @ smooth_first(powers(2), TIME)) == pytest.approx(np.eye(3), abs=1e-8)


def test_fewer_times_than_columns_say_nothing_of_roughness() -> None:
    time = torch.arange(5.0, dtype=torch.float64).repeat(20)
    phi = torch.stack([torch.cos(j * time) for j in range(6)], dim=1)
    S = smooth_first(phi, time)
    assert torch.isfinite(S).all()
