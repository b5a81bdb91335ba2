"""Draws from conjugate conditionals: their moments in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dgmm.mcmc import Streams, draw_inverse_gamma, draw_inverse_wishart, draw_normal

MANY = 20_000


def test_a_normal_vector_has_its_mean_and_covariance() -> None:
    P = np.array([[4.0, 1.0], [1.0, 2.0]])
    r = np.array([1.0, -3.0])
    noise = Streams.of(1, [0]).normal(2, MANY)[0]
    x = draw_normal(np.repeat(P[:, :, None], MANY, 2), np.repeat(r[:, None], MANY, 1), noise)
    V = np.linalg.inv(P)
    assert np.abs(x.mean(1) - V @ r).max() < 4 * np.sqrt(V.max() / MANY)
    assert np.cov(x) == pytest.approx(V, abs=4 * V.max() * np.sqrt(2 / MANY))


@pytest.mark.parametrize("q", [1, 2, 3])
def test_an_inverse_wishart_matrix_has_the_moments_of_its_inverse(q: int) -> None:
    """E D^-1 = df S^-1 and E D = S / (df - q - 1): S is not inverted."""
    df, rng = q + 7.5, np.random.default_rng(q)
    A = rng.normal(size=(q, q))
    S = A @ A.T + np.eye(q)
    streams = Streams.of(2, range(MANY // 10))
    D = draw_inverse_wishart(df, np.repeat(S[:, :, None], MANY // 10, 2), streams)
    mean = S / (df - q - 1)
    error = D.std(-1) / np.sqrt(MANY // 10)
    assert (np.abs(D.mean(-1) - mean) < 4 * error + 1e-12).all()
    inverse = np.moveaxis(np.linalg.inv(np.moveaxis(D, -1, 0)), 0, -1)
    error = inverse.std(-1) / np.sqrt(MANY // 10)
    assert (np.abs(inverse.mean(-1) - df * np.linalg.inv(S)) < 4 * error + 1e-12).all()


def test_an_inverse_gamma_variance_has_its_quantiles() -> None:
    drawn = draw_inverse_gamma(2.5, np.full(4000, 1.7), Streams.of(4, range(4000)))
    assert stats.kstest(drawn, stats.invgamma(2.5, scale=1.7).cdf).pvalue > 1e-3
