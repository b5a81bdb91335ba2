"""Priors: proper or refused, their densities in closed form, their conditionals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from dgmm import half_normal, half_t, inv_gamma, inv_wishart, known, log_normal, normal, prior
from dgmm.bayes import CovariancePrior, HalfT
from dgmm.bayes.deviations import Deviation, HalfNormal, LogNormal
from dgmm.mcmc import Streams

S = ((2.0, 0.5), (0.5, 1.0))


def log_density(one: CovariancePrior, D: np.ndarray) -> float:
    """log p(D) up to a constant, from the definitions."""
    q, inverse = len(D), np.linalg.inv(D)
    if isinstance(one, HalfT):
        inner = np.log(one.df * np.diag(inverse) + np.array(one.scale) ** -2.0).sum()
        return float(-0.5 * (one.df + 2 * q) * np.linalg.slogdet(D)[1] - 0.5 * (one.df + q) * inner)
    if isinstance(one, Deviation):
        sd = float(np.sqrt(D[0, 0]))
        of_sd = {
            HalfNormal: lambda own: stats.halfnorm(scale=own.scale),
            LogNormal: lambda own: stats.lognorm(own.sd, scale=np.exp(own.mean)),
        }[type(one)](one)
        return float(of_sd.logpdf(sd) - np.log(2 * sd))
    return float(stats.invwishart(one.df, np.array(one.S)).logpdf(D))  # type: ignore[attr-defined]


@pytest.mark.parametrize("one", [inv_wishart(5, S), half_t(2, [1.5, 0.7])], ids=str)
@pytest.mark.parametrize("k", [0, 1])
def test_the_ratio_along_a_scale_is_that_of_the_density(one: CovariancePrior, k: int) -> None:
    D, c = np.array([[1.3, -0.4], [-0.4, 0.8]]), np.array([0.6, -1.7])
    found = one.log_ratio(np.repeat(np.linalg.inv(D)[:, :, None], 2, 2), k, c)
    for value, factor in zip(found, c, strict=True):
        scale = np.diag([factor if j == k else 1.0 for j in range(2)])
        assert value == pytest.approx(log_density(one, scale @ D @ scale) - log_density(one, D))


@pytest.mark.parametrize("one", [half_normal(1.5), log_normal(0.3, 0.8)], ids=str)
def test_the_ratio_of_one_deviation_and_its_draws_are_those_of_the_density(one: Deviation) -> None:
    D, c = np.array([[1.3]]), np.array([0.6, -1.7])
    found = one.log_ratio(np.full((1, 1, 2), 1 / 1.3), 0, c)
    for value, factor in zip(found, c, strict=True):
        assert value == pytest.approx(log_density(one, factor**2 * D) - log_density(one, D))
    sd = np.sqrt(one.simulate(1, Streams.of(1, range(4000)))[0, 0])
    cdf = {HalfNormal: stats.halfnorm(scale=1.5).cdf}.get(
        type(one), stats.lognorm(0.8, scale=np.exp(0.3)).cdf
    )
    assert stats.kstest(sd, cdf).pvalue > 1e-3


def test_standard_deviations_under_half_t_are_half_t_and_correlations_uniform() -> None:
    streams = Streams.of(1, range(4000))
    D = half_t(2, [1.5, 0.7]).simulate(2, streams)
    for k, scale in enumerate((1.5, 0.7)):
        z = np.sqrt(D[k, k]) / scale
        assert stats.kstest(z, lambda x: 2 * stats.t(2).cdf(x) - 1).pvalue > 1e-3
    correlation = D[0, 1] / np.sqrt(D[0, 0] * D[1, 1])
    assert stats.kstest(correlation, stats.uniform(-1, 2).cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    "one",
    [half_t(3, 2.0).checked(1, ""), inv_gamma(2, 3), half_normal(0.8), log_normal(1, 0.5)],
    ids=str,
)
def test_a_variance_given_normal_effects_has_the_posterior_of_quadrature(
    one: CovariancePrior,
) -> None:
    """Over many updates: of a half-t the auxiliary variable, of others a step, needs the last."""
    squares, levels, chains = 14.0, 9, 1000
    streams = Streams.of(2, range(chains))
    D = np.ones((1, 1, chains))
    for _ in range(30):
        D = one.draw(1 / D, np.full((1, 1, chains), squares), levels, streams)

    def height(v: float) -> float:
        return float(
            np.exp(log_density(one, np.array([[v]])) - 0.5 * squares / v) * v ** (-0.5 * levels)
        )

    total = integrate.quad(height, 0, np.inf)[0]
    mean = integrate.quad(lambda v: np.log(v) * height(v), 0, np.inf)[0] / total
    drawn = np.log(D[0, 0])
    assert abs(drawn.mean() - mean) < 4 * drawn.std() / np.sqrt(chains)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: normal(0, np.inf), "finite number"),
        (lambda: normal(0, 0), "positive"),
        (lambda: normal(np.nan, 1), "finite"),
        (lambda: inv_gamma(0, 0), "has to be proper"),
        (lambda: half_t(2, np.inf), "has to be proper"),
        (lambda: half_t(-1), "positive"),
        (lambda: inv_wishart(4, [[1, 2], [2, 1]]), "positive definite"),
        (lambda: inv_wishart(4, [[1, 2, 3]]), "positive definite"),
        (lambda: inv_wishart(4, [[np.inf]]), "positive definite"),
        (lambda: half_normal(np.inf), "has to be proper"),
        (lambda: log_normal(0, 0), "positive"),
        (lambda: log_normal(np.nan, 1), "finite"),
        (lambda: known(0), "positive definite"),
        (lambda: known([[1, 2], [2, 1]]), "positive definite"),
        (lambda: known(1).checked(2, "(1 + x | id)"), "1 x 1, and there are 2 effects"),
        (lambda: half_normal(1).checked(2, "(1 + x | id)"), r"write \(x \|\| id\)"),
        (lambda: inv_wishart(1, np.eye(2)).checked(2, "(1 + x | id)"), "more than 1 degrees"),
        (lambda: inv_wishart(4, np.eye(3)).checked(2, "(1 + x | id)"), "about 2 effects"),
        (lambda: half_t(2, [1, 2, 3]).checked(2, "(1 + x | id)"), "3 scales for 2"),
        (lambda: normal([0, 1], 1).of(["a", "b", "c"], "the coefficients"), "2 means"),
    ],
)
def test_what_is_no_prior_is_refused(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_a_prior_of_another_kind_is_refused() -> None:
    with pytest.raises(TypeError, match=r"beta= of prior\(\) is normal"):
        prior(beta=half_t())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="half_t"):
        prior(cov="half_t")  # type: ignore[arg-type]


def test_a_number_stands_for_a_multiple_of_the_identity() -> None:
    assert inv_wishart(5, 2.0).checked(2, "").S == ((2.0, 0.0), (0.0, 2.0))


def test_what_is_known_stays() -> None:
    streams = Streams.of(1, range(3))
    one = known(S).checked(2, "")
    precision = np.repeat(np.eye(2)[:, :, None], 3, 2)
    drawn = one.draw(precision, precision, 8, streams)
    assert np.array_equal(drawn, np.repeat(np.array(S)[:, :, None], 3, 2))
    assert list(one.log_ratio(precision, 0, np.array([1.0, 0.9, -1.0]))) == [0, -np.inf, -np.inf]
    assert prior(sigma2=known(1)).residual_known
    assert not prior(cov=known(1)).residual_known
