"""Random intercepts of large standard deviation: quadrature that is long enough, and a grid."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import data
from scipy import special

import dgmm
from dgmm import Fit

TEXT = "member ~ experience + (1 | cre(id, ~ experience))"


@pytest.fixture(scope="module")
def unions() -> Fit:
    """Union contracts of 100 workers in seven years, of whom 90 never change."""
    frame = data("psid7682")
    frame = frame[frame["id"].astype(int) <= 100]
    frame = frame.assign(member=(frame["union"] == "yes").astype(float))
    return dgmm.mixed_model(TEXT, frame, family="bernoulli", link="probit", verbose=0)


def on_a_grid(fit: Fit) -> tuple[float, np.ndarray]:
    """Log-likelihood at the estimate and its derivatives in beta and log sd, 4001 values of b."""
    frame, beta = fit.memory.frame, fit.fixef().to_numpy()
    x = frame["experience"].to_numpy()
    code = np.unique(frame["id"].astype(int), return_inverse=True)[1]
    mean = np.bincount(code, x) / np.bincount(code)
    X = np.column_stack([np.ones(len(x)), x, mean[code]])
    b, sd = np.linspace(-8, 8, 4001), fit.var_corr()["sdcor"].iloc[0]
    sign = 2 * frame["member"].to_numpy() - 1
    eta = sign[:, None] * ((X @ beta)[:, None] + sd * b)
    log = special.log_ndtr(eta)
    slope = np.exp(-0.5 * eta**2 - 0.5 * np.log(2 * np.pi) - log) * sign[:, None]
    total = np.zeros((code.max() + 1, len(b)))
    np.add.at(total, code, log)
    total += np.log(b[1] - b[0]) - 0.5 * b**2 - 0.5 * np.log(2 * np.pi)
    each = special.logsumexp(total, axis=1)
    weight = np.exp(total - each[:, None])[code] * slope
    return each.sum(), np.append(X.T @ weight.sum(1), sd * (weight @ b).sum())


def test_the_maximum_is_that_of_a_grid(unions: Fit) -> None:
    assert unions.estimate.converged
    assert unions.messages == ()
    assert 9 < unions.var_corr()["sdcor"].iloc[0] < 11
    value, gradient = on_a_grid(unions)
    assert float(unions.loglik()) == pytest.approx(value, abs=0.01)
    error = np.append(unions.std_errors(), unions.var_corr()["se_working"].iloc[0])
    assert np.abs(gradient * error).max() < 0.02


def test_average_partial_effects_are_those_of_a_probit_over_all(unions: Fit) -> None:
    """E Phi(eta + s b) = Phi{eta (1 + s^2)^(-1/2)}, Wooldridge (2010), section 15.8.2."""
    found = unions.panel_test(time="year")
    beta, sd = unions.fixef(), unions.var_corr()["sdcor"].iloc[0]
    eta = unions.estimate.panel.rows.X.numpy() @ beta.to_numpy()
    k = (1 + sd**2) ** -0.5
    density = np.exp(-0.5 * (k * eta) ** 2) / np.sqrt(2 * np.pi)
    assert found.partial_effects is not None
    own = found.partial_effects.loc["experience"]
    assert own["Estimate"] == pytest.approx(beta["experience"] * k * density.mean(), rel=1e-8)
    assert 0 < own["Std. Error"] < 0.02
    assert "with the probit link given the sums of subjects" in " ".join(found.notes)


def test_subjects_without_a_change_leave_a_variance_without_a_bound() -> None:
    rng = np.random.default_rng(1)
    frame = data("psid7682").iloc[:140][["id", "experience"]]
    code = np.unique(frame["id"].astype(int), return_inverse=True)[1]
    frame = frame.assign(member=(rng.uniform(size=20) < 0.4).astype(float)[code])
    text, options = "member ~ experience + (1 | id)", {"family": "bernoulli", "verbose": 0}
    with pytest.warns(UserWarning, match="has not converged"):
        fit = dgmm.mixed_model(text, frame, **options)
    said = " ".join(fit.messages)
    assert "The outcomes of 20 of 20 subjects with several rows are all alike" in said
    assert "(1 | id) has a large variance and not how large" in said
