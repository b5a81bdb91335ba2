"""Population-averaged coefficients, against closed forms, quadrature and differences."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import data
from scipy.special import expit, logit

from dgmm import Fit, mixed_model
from dgmm.inference.quantities import Population

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(100)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


@pytest.fixture(scope="module")
def logistic() -> Fit:
    random = np.random.default_rng(8)
    n, J = 150, 5
    time = np.tile(np.arange(J) / 2.0, n)
    b = random.normal(size=n).repeat(J) * 2.0
    y = (random.random(n * J) < expit(-0.5 + time + b)).astype(float)
    frame = pd.DataFrame({"y": y, "time": time, "id": np.arange(n).repeat(J)})
    return mixed_model("y ~ time + I(time**2) + (1 | id)", frame, family="bernoulli", verbose=0)


def test_hedekers_regression_by_quadrature(logistic: Fit) -> None:
    t = logistic.memory.frame["time"].to_numpy()
    X = np.column_stack([np.ones(len(t)), t, t**2])
    sd = logistic.var_corr()["sdcor"].iloc[0]
    averages = expit((X @ logistic.fixef().to_numpy())[:, None] + sd * NODES) @ WEIGHTS
    expected = np.linalg.lstsq(X, logit(averages), rcond=None)[0]
    table = logistic.marginal_coefs()
    np.testing.assert_allclose(table["Estimate"], expected, atol=1e-7)
    # Zeger, Liang and Albert's rule: a slope shrinks by about (1 + 0.346 sd^2)^(1/2)
    shrunk = table["Estimate"] / logistic.fixef()
    assert np.abs(shrunk.iloc[1] * np.sqrt(1 + 0.346 * sd**2) - 1) < 0.1


def test_standard_errors_by_differences(logistic: Fit) -> None:
    done, info = logistic.estimate, logistic.information
    assert info is not None
    x, X = info.packing.pack(done.theta).detach(), done.panel.rows.X.numpy()
    quantity, columns = Population(done), []
    for j in range(len(x)):
        ends = []
        for step in (1e-5, -1e-5):
            moved = x.clone()
            moved[j] += step
            p = quantity.value(info.packing.unpack(moved), done.panel).numpy()
            ends.append(np.linalg.lstsq(X, logit(p), rcond=None)[0])
        columns.append((ends[0] - ends[1]) / 2e-5)
    J = np.column_stack(columns)
    expected = np.sqrt(np.diag(J @ info.vcov.numpy() @ J.T))
    np.testing.assert_allclose(logistic.marginal_coefs()["Std. Error"], expected, rtol=1e-6)


def test_a_log_link_moves_the_intercept_alone() -> None:
    frame = data("epil").assign(weeks=np.linspace(1.0, 4.0, len(data("epil"))))
    formula = "y ~ lage + trt + offset(log(weeks)) + (1 | subject)"
    fit = mixed_model(formula, frame, family="poisson", verbose=0)
    table, beta = fit.marginal_coefs(), fit.fixef()
    sd = fit.var_corr()["sdcor"].iloc[0]
    np.testing.assert_allclose(table["Estimate"], beta + np.array([sd**2 / 2, 0, 0]), atol=1e-8)
    np.testing.assert_allclose(table["Std. Error"][1:], fit.std_errors()[1:], rtol=1e-6)


def test_a_gaussian_model_has_its_own(sleepstudy_reml: Fit) -> None:
    table = sleepstudy_reml.marginal_coefs()
    np.testing.assert_allclose(table["Estimate"], sleepstudy_reml.fixef(), rtol=1e-9)
    np.testing.assert_allclose(table["Std. Error"], sleepstudy_reml.std_errors(), rtol=1e-7)


def test_a_network_has_no_coefficients(curved: Fit) -> None:
    with pytest.raises(ValueError, match="dnn.z.* has no coefficients; effects"):
        curved.marginal_coefs()
    bare = mixed_model("Reaction ~ Days + (1 | Subject)", data("sleepstudy"), se=None, verbose=0)
    with pytest.raises(ValueError, match="needs standard errors"):
        bare.marginal_coefs()
