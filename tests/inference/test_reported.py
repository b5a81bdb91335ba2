"""Variance components on their own scale, with standard errors by the delta method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import FORMULAS, data
from torch import Tensor

from dgmm import Fit, mixed_model
from dgmm.inference.reported import beta_vcov, components, covariance, time_profile
from dgmm.parameters import part


def natural_log_likelihood(fit: Fit, x: Tensor) -> Tensor:
    """Dense Gaussian log-likelihood in beta, log SDs, atanh correlation and log sigma."""
    rows, panel, p = fit.estimate.observed.rows, fit.estimate.observed, len(fit.fixef())
    sd, rho, sigma = x[p : p + 2].exp(), torch.tanh(x[p + 2]), x[p + 3].exp()
    one = torch.ones((), dtype=torch.float64)
    correlation = torch.stack([torch.stack([one, rho]), torch.stack([rho, one])])
    D = sd[:, None] * correlation * sd
    total = torch.zeros((), dtype=torch.float64)
    for i in range(panel.n):
        own = panel.subject == i
        T = rows.T[0][own]
        V = T @ D @ T.T + sigma**2 * torch.eye(len(T), dtype=torch.float64)
        normal = torch.distributions.MultivariateNormal(rows.X[own] @ x[:p], V)
        total = total + normal.log_prob(rows.data.y[own])
    return total


@pytest.mark.parametrize(("name", "rtol"), [("sleepstudy", 1e-4), ("orthodont", 1e-3)])
def test_standard_errors_against_the_natural_parametrisation(
    name: str, rtol: float, fit_of: Callable[..., Fit]
) -> None:
    fit = fit_of(name)
    table = components(fit.estimate, fit.information, fit.memory.groups).table
    x = torch.tensor([*fit.fixef(), *table["working"]], dtype=torch.float64)
    assert float(natural_log_likelihood(fit, x)) == pytest.approx(float(fit.loglik()), abs=1e-8)
    hessian = torch.autograd.functional.hessian(lambda v: natural_log_likelihood(fit, v), x)
    se = torch.linalg.inv(-hessian).diagonal().sqrt().numpy()
    p = len(fit.fixef())
    np.testing.assert_allclose(fit.std_errors(), se[:p], rtol=1e-4)
    np.testing.assert_allclose(table["std_error"], se[p:], rtol=rtol)


def test_the_working_scale(sleepstudy: Fit) -> None:
    table = components(sleepstudy.estimate, sleepstudy.information, sleepstudy.memory.groups).table
    single = table["name2"].isna()
    np.testing.assert_allclose(np.log(table["estimate"][single]), table["working"][single])
    np.testing.assert_allclose(np.arctanh(table["estimate"][~single]), table["working"][~single])
    assert list(table["group"]) == ["Subject"] * 3 + ["Residual"]
    assert list(table["name1"]) == ["(Intercept)", "Days", "(Intercept)", ""]


def test_components_without_information_have_no_errors(sleepstudy: Fit) -> None:
    table = components(sleepstudy.estimate, None, sleepstudy.memory.groups).table
    assert table["std_error"].isna().all()
    assert table["estimate"].notna().all()


def test_two_terms_on_one_group_are_listed_in_turn() -> None:
    formula = "Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)"
    fit = mixed_model(formula, data("sleepstudy"), verbose=0)
    double = mixed_model("Reaction ~ Days + (Days || Subject)", data("sleepstudy"), verbose=0)
    table = fit.var_corr()
    assert list(table["name1"]) == ["(Intercept)", "Days", ""]
    np.testing.assert_allclose(table["sdcor"], double.var_corr()["sdcor"], rtol=1e-5)
    assert float(fit.loglik()) == pytest.approx(float(double.loglik()), abs=1e-8)


def test_covariance_is_that_of_the_random_effects(sleepstudy: Fit) -> None:
    done = sleepstudy.estimate
    D = covariance(done.model.latents[0], part(done.theta, "latent1.")).numpy()
    found = sleepstudy.var_corr()["vcov"].to_numpy()
    np.testing.assert_allclose(D, [[found[0], found[2]], [found[2], found[1]]], rtol=1e-10)


def test_covariance_of_the_coefficients_follows_their_units() -> None:
    frame = data("sleepstudy")
    hours = frame.assign(Days=frame["Days"] * 24)
    days = mixed_model(FORMULAS["sleepstudy"], frame, verbose=0)
    fit = mixed_model(FORMULAS["sleepstudy"], hours, verbose=0)
    unit = np.array([1, 1 / 24])
    for kind in ("hessian", "gls"):
        expected = unit[:, None] * beta_vcov(days.estimate, days.information, kind) * unit
        np.testing.assert_allclose(
            beta_vcov(fit.estimate, fit.information, kind), expected, rtol=1e-4
        )


def test_profile_of_a_neural_part_without_its_network_is_linear(deep: Fit) -> None:
    done, latent = deep.estimate, deep.estimate.model.latents[0]
    silent = {
        name: value * 0 if name.rpartition(".")[2][0] in "Aa" else value
        for name, value in done.theta.items()
    }
    found = time_profile(replace(done, theta=silent), 0)
    skip = latent.loadings(part(silent, "latent1."))
    time, T = done.panel.rows.time, done.panel.rows.T[0]
    at = [int(torch.nonzero(time == value)[0]) for value in (0.0, 4.0, 9.0)]
    S = (T[at] @ skip @ skip.T @ T[at].T).numpy()
    sd = np.sqrt(np.diag(S))
    np.testing.assert_allclose(found.times, [0, 4, 9])
    np.testing.assert_allclose(found.sd, sd, rtol=0.01)  # 4096 quasi-random draws
    np.testing.assert_allclose(found.correlation, S / np.outer(sd, sd), atol=0.01)


def test_a_parameter_at_its_boundary_leaves_the_others_their_errors(singular: Fit) -> None:
    table = components(singular.estimate, singular.information, singular.memory.groups).table
    known = table.set_index("name1")["std_error"].notna()
    assert list(known[["(Intercept)", "t", ""]]) == [True, False, True]


def test_family_parameters_are_transformed_with_their_errors() -> None:
    rng = np.random.default_rng(5)
    group = np.repeat(np.arange(40), 6)
    mu = np.exp(0.5 + 0.4 * rng.normal(size=40)[group])
    frame = pd.DataFrame({"y": rng.gamma(3.0, mu / 3.0), "g": group})
    fit = mixed_model("y ~ 1 + (1 | g)", frame, family="gamma", verbose=0)
    table = fit.family_parameters()
    assert fit.information is not None
    at = fit.information.packing.positions(["extra"])
    error = float(fit.information.vcov[at][:, at].sqrt())
    log_shape = float(fit.estimate.theta["extra"][0])
    row = table.loc["shape"]
    assert row["estimate"] == pytest.approx(np.exp(log_shape))
    assert row["std_error"] == pytest.approx(np.exp(log_shape) * error)
    assert row["lower"] == pytest.approx(np.exp(log_shape - 1.959964 * error), rel=1e-6)
    assert abs(log_shape - np.log(3)) < 4 * error
    assert tuple(fit.confint().loc["shape"]) == (row["lower"], row["upper"])
    assert "Family parameters:" in str(fit.summary())


def test_the_residual_standard_deviation_is_no_family_parameter(sleepstudy: Fit) -> None:
    assert sleepstudy.family_parameters().empty
    assert "Family parameters:" not in str(sleepstudy.summary())
