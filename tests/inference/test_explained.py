"""R2 and ICC: numbers of MuMIn, closed forms."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import data
from scipy import special
from toys import frame

from dgmm import Fit, mixed_model
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
    between = toenail.var_corr()["vcov"].iloc[0]
    assert toenail.icc()["adjusted"] == pytest.approx(between / (between + np.pi**2 / 3), rel=1e-10)


def variance_of(name: str, link: str | None, mean: list[float], extra: list[float], form: str):
    """v_e where E(y) is ``mean``."""
    family = find_family(name, link)
    parameters, mu = (torch.tensor(values, dtype=torch.float64) for values in (extra, mean))
    return family.observation_variance(family.predictor(mu, parameters), parameters, form)


MU = [0.2, 0.5, 0.9]
COUNTS = np.array([0.5, 3.0, 20.0])


@pytest.mark.parametrize("word", ["bernoulli", "binomial", "beta_binomial"])
@pytest.mark.parametrize(
    ("link", "value"), [("logit", np.pi**2 / 3), ("probit", 1.0), ("cloglog", np.pi**2 / 6)]
)
def test_threshold_families(word: str, link: str, value: float) -> None:
    extra = [0.4] if word == "beta_binomial" else []
    found = variance_of(word, link, MU, extra, "delta")
    np.testing.assert_allclose(found, value, rtol=1e-14)


# Nakagawa, Johnson and Schielzeth (2017), tables 1 and 2: (family, link, extra, form) and v_e at mu
PUBLISHED = [
    ("poisson", "log", [], "delta", lambda mu: 1 / mu),
    ("poisson", "log", [], "lognormal", lambda mu: np.log(1 + 1 / mu)),
    ("poisson", "log", [], "trigamma", lambda mu: special.polygamma(1, mu)),
    ("poisson", "sqrt", [], "lognormal", lambda mu: 0.25 + 0 * mu),
    ("negative_binomial", "log", [0.9], "delta", lambda mu: 1 / mu + np.exp(-0.9)),
    ("negative_binomial", "log", [0.9], "lognormal", lambda mu: np.log(1 + 1 / mu + np.exp(-0.9))),
    (
        *("negative_binomial", "log", [0.9], "trigamma"),
        lambda mu: special.polygamma(1, 1 / (1 / mu + np.exp(-0.9))),
    ),
    ("nb1", "log", [0.9], "lognormal", lambda mu: np.log(1 + (1 + np.exp(0.9)) / mu)),
    ("negative_binomial", "sqrt", [0.9], "delta", lambda mu: 0.25 * (1 + mu * np.exp(-0.9))),
    ("gamma", "log", [0.5], "delta", lambda mu: np.exp(-0.5) + 0 * mu),
    ("gamma", "log", [0.5], "lognormal", lambda mu: np.log(1 + np.exp(-0.5)) + 0 * mu),
    ("gamma", "log", [0.5], "trigamma", lambda mu: special.polygamma(1, np.exp(0.5)) + 0 * mu),
    ("gamma", "inverse", [0.5], "lognormal", lambda mu: np.exp(-0.5) / mu**2),
    ("gaussian", "identity", [0.7], "lognormal", lambda mu: np.exp(1.4) + 0 * mu),
    ("lognormal", "identity", [-0.4], "delta", lambda mu: np.exp(-0.8) + 0 * mu),
    ("censored_gaussian", "identity", [-0.4], "delta", lambda mu: np.exp(-0.8) + 0 * mu),
    # of a zero-inflated or hurdle outcome the moments of the whole: zeros count
    (
        *("zero_inflated_poisson", "log", [-0.6], "lognormal"),
        lambda mu: np.log(1 + (1 + special.expit(-0.6) * mu / special.expit(0.6)) / mu),
    ),
    (
        *("hurdle_gamma", "log", [0.5, -0.6], "lognormal"),
        lambda mu: np.log((1 + np.exp(-0.5)) / special.expit(0.6)) + 0 * mu,
    ),
    (
        *("hurdle_lognormal", "identity", [-0.4, -0.6], "lognormal"),
        lambda mu: np.exp(-0.8) - np.log(special.expit(0.6)) + 0 * mu,
    ),
]


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: f"{case[0]}-{case[1]}-{case[3]}")
def test_published_formulas(case: tuple) -> None:
    name, link, extra, form, expected = case
    found = variance_of(name, link, COUNTS.tolist(), extra, form)
    np.testing.assert_allclose(found, expected(COUNTS), rtol=1e-8)


def test_a_beta_outcome_by_the_delta_method() -> None:
    # var(y) = mu (1 - mu) / (1 + phi) over the square of d mu / d eta = mu (1 - mu)
    mu, phi = np.array(MU), np.exp(1.3)
    found = variance_of("beta", "logit", MU, [1.3], "lognormal")
    np.testing.assert_allclose(found, 1 / (mu * (1 - mu) * (1 + phi)), rtol=1e-10)


def test_log_y_of_a_lognormal_outcome_is_gaussian() -> None:
    one = mixed_model("y ~ x + (1 | id)", positive(), verbose=0)
    other = mixed_model("raw ~ x + (1 | id)", positive(), family="lognormal", verbose=0)
    np.testing.assert_allclose(one.icc(), other.icc(), rtol=1e-5)
    np.testing.assert_allclose(one.r2(), other.r2(), rtol=1e-5)


@pytest.mark.parametrize(("name", "extra"), [("beta", [1.3]), ("ordered_beta", [-1.0, 0.7, 1.3])])
def test_the_unit_of_a_bounded_outcome_does_not_matter(name: str, extra: list[float]) -> None:
    parameters, mu = (torch.tensor(v, dtype=torch.float64) for v in (extra, MU))
    found = [
        family.observation_variance(family.predictor(scale * mu, parameters), parameters)
        for scale in (1.0, 1000.0)
        for family in [find_family(name, bounds=(0.0, scale))]
    ]
    torch.testing.assert_close(*found, rtol=1e-10, atol=0)
    assert bool(torch.isfinite(found[0]).all())


def positive() -> pd.DataFrame:
    data = frame(30, 6, seed=5)
    data["y"] = data["y"] / 3
    return data.assign(raw=np.exp(data["y"]), cut=data["y"].clip(lower=0.0))


@pytest.mark.parametrize(
    ("formula", "family"),
    [
        ("raw ~ x + (1 | id)", "inverse_gaussian"),
        ("cut ~ x + (1 | id)", "censored_gaussian"),
        ("count ~ x + t + (1 | id)", "hurdle_poisson"),
        ("cbind(hits, size - hits) ~ x + (1 | id)", "beta_binomial"),
        ("cbind(hits, size - hits) ~ x + (1 | id)", "zero_inflated_binomial"),
    ],
)
def test_three_functions_have_one_definition(formula: str, family: str) -> None:
    fit = mixed_model(formula, positive(), family=family, verbose=0)
    icc, r2, profile = fit.icc(), fit.r2(), fit.random_profile()
    assert profile.table["icc"][0] == pytest.approx(icc["adjusted"], rel=1e-10)
    assert r2["conditional"] - r2["marginal"] == pytest.approx(icc["unadjusted"], rel=1e-10)
    assert fit.estimate.model.family.observation_formula() in str(profile)


def test_the_formula_is_printed(epil: Fit, sleepstudy: Fit) -> None:
    shown = str(epil.icc())
    assert "v_e = log{1 + var(y) / E(y)^2} (Nakagawa, Johnson and Schielzeth 2017)" in shown
    assert "v_e = psi_1{E(y)^2 / var(y)}" in str(epil.r2(form="trigamma"))
    assert "v_e = sigma^2" in str(sleepstudy.icc())
    again = pickle.loads(pickle.dumps(epil.icc()))
    assert str(again) == shown
    assert "v_e" not in str(epil.icc().round(3))  # an ordinary series


def test_an_unknown_form_is_refused(epil: Fit) -> None:
    with pytest.raises(ValueError, match="lognormal, trigamma, delta"):
        epil.r2(form="exact")


def test_ordered_outcomes_have_the_variance_of_their_latent_variable() -> None:
    fit = mixed_model("rating ~ temp + contact + (1 | judge)", data("wine"), family="cumulative")
    variance = fit.var_corr()["vcov"].iloc[0]
    assert fit.icc()["adjusted"] == pytest.approx(variance / (variance + np.pi**2 / 3))
    assert 0 < fit.r2()["marginal"] < fit.r2()["conditional"] < 1
