"""Parameters of a family that run to an edge are held there, in words, and the rest is usable."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from scipy.special import gammaln

from dgmm import mixed_model
from dgmm.families import Observations, find


def plain() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"id": np.repeat(np.arange(27), 4), "t": np.tile(np.arange(4.0), 27)})
    data["y"] = data["t"] + rng.normal(size=27)[data["id"]] + rng.normal(size=108)
    data["c"] = rng.poisson(np.exp(0.3 * data["t"] + 0.5 * rng.normal(size=27)[data["id"]]))
    data["share"] = rng.beta(4 * np.exp(0.2 * data["t"]), 4)
    return data


@pytest.mark.parametrize(
    ("outcome", "family", "simpler", "parameter", "side"),
    [
        ("y", "student_t", "gaussian", "df", "upper"),
        ("c", "zero_inflated_poisson", "poisson", "zero", "lower"),
        ("share", "ordered_beta", "beta", "cutpoint1", "lower"),
    ],
)
def test_the_simpler_family_is_reached(
    outcome: str, family: str, simpler: str, parameter: str, side: str
) -> None:
    data = plain()
    formula = f"{outcome} ~ t + (1 | id)"
    fit = mixed_model(formula, data, family=family, verbose=0)
    inner = mixed_model(formula, data, family=simpler, verbose=0)
    assert fit.estimate.converged
    assert float(fit.loglik()) == pytest.approx(float(inner.loglik()), abs=0.01)
    np.testing.assert_allclose(fit.fixef(), inner.fixef(), atol=0.01)
    np.testing.assert_allclose(fit.std_errors(), inner.std_errors(), rtol=0.01)
    own = fit.family_parameters().loc[parameter]
    assert own[["std_error", "lower", "upper"]].isna().all()
    (note,) = [m for m in fit.messages if f"boundary: `{parameter}`" in m]
    assert f"the {side} end" in note


def test_a_parameter_inside_its_range_is_left_alone() -> None:
    fit = mixed_model("c ~ t + (1 | id)", plain(), family="negative_binomial", verbose=0)
    assert fit.family_parameters().notna().all(axis=None)
    assert not any("boundary" in note for note in fit.messages)


def test_a_modelled_probability_of_zero_that_is_not_there_is_held_in_all_coefficients() -> None:
    data = plain().assign(w=lambda d: np.sin(np.arange(len(d))))
    data["c"] = 3 + data["c"]  # no zeros at all
    fit = mixed_model("c ~ t + (1 | id)", data, family="poisson", zi="~ w", verbose=0)
    inner = mixed_model("c ~ t + (1 | id)", data, family="poisson", verbose=0)
    assert float(fit.loglik()) == pytest.approx(float(inner.loglik()), abs=0.01)
    np.testing.assert_allclose(fit.std_errors(), inner.std_errors(), rtol=0.01)
    assert fit.part_coefficients()["zi"]["Std. Error"].isna().all()
    assert any("boundary: `zero`" in note and "the lower end" in note for note in fit.messages)


def test_a_count_of_one_beyond_the_hurdle_becomes_certain() -> None:
    """log P(1 | y > 0) = -mu / 2 + O(mu^2), which needs the relative digits of f(0)."""
    eta = torch.tensor([-10.0, -20.0, -40.0, -100.0, -200.0], dtype=torch.float64)
    one, extra = torch.ones_like(eta), torch.full((1,), -60.0, dtype=torch.float64)
    found = find("hurdle_poisson").log_density(Observations(one, one, one), eta, extra)
    np.testing.assert_allclose(found, -0.5 * torch.exp(eta), rtol=1e-4, atol=1e-12)
    none = find("poisson").log_density(Observations(0 * one, one, one), eta, extra[:0])
    np.testing.assert_allclose(none, -torch.exp(eta), rtol=1e-14)


def test_counts_of_ones_leave_a_likelihood_of_zeros_alone() -> None:
    """All positive counts are one: P(1 | y > 0) goes to 1, and the zeros are a binomial sample."""
    y = np.array([0.0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1])
    data = pd.DataFrame({"id": np.repeat(np.arange(4), 3), "y": y})
    fit = mixed_model("y ~ 1 + (1 | id)", data, family="hurdle_poisson", verbose=0)
    binomial = stats.bernoulli.logpmf(y, y.mean()).sum()
    assert float(fit.loglik()) == pytest.approx(binomial, abs=1e-3)


def test_nb1_counts_of_a_million() -> None:
    """log p of independent counts by scipy: the variance of the random intercept goes to zero."""
    y = np.round(np.random.default_rng(3).uniform(1e5, 1e6, 21))
    data = pd.DataFrame({"id": np.repeat(np.arange(7), 3), "y": y})
    fit = mixed_model("y ~ 1 + (1 | id)", data, family="nb1", verbose=0)
    alpha = fit.family_parameters().loc["alpha", "estimate"]
    size = np.exp(fit.fixef().iloc[0]) / alpha
    direct = stats.nbinom.logpmf(y, size, 1 / (1 + alpha)).sum()
    assert fit.estimate.converged
    assert float(fit.loglik()) == pytest.approx(direct, abs=1e-3)
    near = [
        stats.nbinom.logpmf(y, size * s, 1 / (1 + alpha * a)).sum()
        for s in (0.9, 1, 1.1)
        for a in (0.9, 1, 1.1)
    ]
    assert max(near) == pytest.approx(direct, abs=1e-6)


def test_generalized_poisson_counts_of_a_million() -> None:
    """Beside nb1, whose variance is proportional to the mean, too, and whose likelihood is near."""
    y = np.round(np.random.default_rng(3).uniform(1e5, 1e6, 21))
    data = pd.DataFrame({"id": np.repeat(np.arange(7), 3), "y": y})
    fit, other = (
        mixed_model("y ~ 1 + (1 | id)", data, family=family, verbose=0)
        for family in ("generalized_poisson", "nb1")
    )
    assert fit.estimate.converged
    assert float(fit.loglik()) == pytest.approx(float(other.loglik()), abs=10)
    mu, a = np.exp(fit.fixef().iloc[0]), fit.family_parameters().loc["alpha", "estimate"]
    rate = (mu + a * y) / (1 + a)  # mu / (1 + a) {mu / (1 + a) + y a / (1 + a)}^(y - 1) ...
    log_p = np.log(mu / (1 + a)) + (y - 1) * np.log(rate) - rate - gammaln(y + 1)
    assert float(fit.loglik()) == pytest.approx(log_p.sum(), abs=1e-3)
