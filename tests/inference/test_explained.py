"""R2 and ICC: numbers of MuMIn, closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import data

from dgmm import Fit, mixed_model
from dgmm.families import Observations
from dgmm.families import find as find_family


def test_sleepstudy_as_mumin(sleepstudy_reml: Fit) -> None:
    # MuMIn::r.squaredGLMM(lmer(Reaction ~ Days + (Days | Subject))): 0.2786511 0.7992199
    found = sleepstudy_reml.r2()
    np.testing.assert_allclose(found, [0.2786511, 0.7992199], atol=2e-6)


def test_random_intercepts(any_fit: Fit) -> None:
    r2, icc = any_fit.r2(), any_fit.icc()
    assert 0 <= r2["marginal"] <= r2["conditional"] <= 1
    assert r2["conditional"] - r2["marginal"] == pytest.approx(icc["unadjusted"], rel=1e-10)


def test_the_icc_of_an_intercept_is_the_share_of_its_variance() -> None:
    fit = mixed_model("Reaction ~ Days + (1 | Subject)", data("sleepstudy"), verbose=0)
    between, within = fit.var_corr()["vcov"]
    assert fit.icc()["adjusted"] == pytest.approx(between / (between + within), rel=1e-10)


def test_a_logistic_intercept(toenail: Fit) -> None:
    between = toenail.var_corr()["vcov"][0]
    assert toenail.icc()["adjusted"] == pytest.approx(between / (between + np.pi**2 / 3), rel=1e-10)


def data_of(size: int) -> Observations:
    one = torch.ones(size, dtype=torch.float64)
    return Observations(one, one, one)


@pytest.mark.parametrize(
    ("name", "link", "value"),
    [("logit", "logit", np.pi**2 / 3), ("probit", "probit", 1.0), ("c", "cloglog", np.pi**2 / 6)],
)
def test_threshold_families(name: str, link: str, value: float) -> None:
    mu = torch.tensor([0.1, 0.5], dtype=torch.float64)
    for word in ("bernoulli", "binomial"):
        found = find_family(word, link).link_variance(mu, data_of(2), torch.zeros(0))
        np.testing.assert_allclose(found, value, rtol=1e-14)


def test_counts() -> None:
    # Nakagawa, Johnson and Schielzeth (2017), table 1
    mu = torch.tensor([0.5, 3.0, 20.0], dtype=torch.float64)
    poisson = find_family("poisson", None)
    forms = {
        "delta": 1 / mu,
        "lognormal": torch.log1p(1 / mu),
        "trigamma": torch.polygamma(1, mu),
    }
    for form, expected in forms.items():
        found = poisson.link_variance(mu, data_of(3), torch.zeros(0), form)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    root = find_family("poisson", "sqrt").link_variance(mu, data_of(3), torch.zeros(0))
    np.testing.assert_allclose(root, 0.25, rtol=1e-12)
    sigma = torch.tensor([0.7], dtype=torch.float64)
    plain = find_family("gaussian", None).link_variance(mu, data_of(3), sigma)
    np.testing.assert_allclose(plain, np.exp(1.4), rtol=1e-12)


def test_an_unknown_form_is_refused(epil: Fit) -> None:
    with pytest.raises(ValueError, match="lognormal, delta, trigamma"):
        epil.r2(form="exact")


def test_ordered_outcomes_have_the_variance_of_their_latent_variable() -> None:
    fit = mixed_model("rating ~ temp + contact + (1 | judge)", data("wine"), family="cumulative")
    variance = fit.var_corr()["vcov"].iloc[0]
    assert fit.icc()["adjusted"] == pytest.approx(variance / (variance + np.pi**2 / 3))
    assert 0 < fit.r2()["marginal"] < fit.r2()["conditional"] < 1
