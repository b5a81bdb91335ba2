"""Deviance and working residuals against closed forms; words that are not types."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special
from toys import frame

from dgmm import Fit, mixed_model


def test_of_counts(epil: Fit) -> None:
    y = epil.memory.frame["y"].to_numpy(float)
    mu = np.exp(epil.fitted("link").to_numpy())
    unit = 2 * (special.xlogy(y, y / mu) - y + mu)
    found = epil.residuals("deviance").to_numpy()
    assert np.allclose(found**2, unit, atol=1e-7)
    assert ((found > 0) == (y > mu)).all()
    assert np.allclose(epil.residuals("working"), (y - mu) / mu, rtol=1e-10)


def test_of_a_gaussian_outcome_deviances_are_in_units_of_sigma(sleepstudy: Fit) -> None:
    plain = sleepstudy.residuals()
    assert plain.name == "residuals"
    scaled = sleepstudy.residuals("deviance")
    assert scaled.name == "deviance residuals"
    assert np.allclose(scaled, plain / sleepstudy.sigma(), atol=1e-6)
    assert np.allclose(sleepstudy.residuals("working"), plain, atol=1e-10)


def test_of_yes_and_no() -> None:
    """The likelihood of an outcome that is certain is one: d^2 = -2 log p."""
    data = frame(30, 5, seed=1, missing=0.1)
    fit = mixed_model("z ~ x + (1 | id)", data, family="bernoulli", se=None, verbose=0)
    eta, y = fit.fitted("link").to_numpy(), data["z"].to_numpy()
    unit = -2 * np.where(y == 1, special.log_expit(eta), special.log_expit(-eta))
    found = fit.residuals("deviance").to_numpy()
    seen = ~np.isnan(y)
    assert np.allclose(found[seen] ** 2, unit[seen], atol=1e-9)
    assert np.isnan(found[~seen]).all()


def test_of_a_gamma_outcome() -> None:
    """2 k {(y - mu) / mu - log(y / mu)}, k the shape."""
    data = frame(30, 5, seed=2)
    data["y"] = np.exp(0.2 * data["y"])
    fit = mixed_model("y ~ x + (1 | id)", data, family="gamma", se=None, verbose=0)
    mu, y = np.exp(fit.fitted("link").to_numpy()), data["y"].to_numpy()
    shape = float(fit.family_parameters()["estimate"]["shape"])
    unit = 2 * shape * ((y - mu) / mu - np.log(y / mu))
    assert np.allclose(fit.residuals("deviance").to_numpy() ** 2, unit, atol=1e-6)


def test_words_that_are_not_types(sleepstudy: Fit) -> None:
    with pytest.raises(ValueError, match=r"type='devience' is not one of .* mean 'deviance'"):
        sleepstudy.residuals("devience")
