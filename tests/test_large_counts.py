"""Counts in the millions against a dense quadrature of its own."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.special import gammaln, logsumexp
from test_bad_input import at, frame

from dgmm import Fit, mixed_model


def dense_poisson(x: np.ndarray, y: np.ndarray, X: np.ndarray, offset: np.ndarray) -> float:
    """log p(y) of a Poisson random intercept, y (n, J), X (n, J, p), x = (beta, log sd).

    41 Gauss-Hermite nodes around every mode; log p relative to that of y's own mean, for digits.
    """
    fixed, sd = offset + X @ x[:-1], np.exp(x[-1])
    own = np.log(np.maximum(y, 1.0))
    saturated = np.where(y > 0, y * own - y, 0.0) - gammaln(y + 1)

    def height(u: np.ndarray) -> np.ndarray:  # (n, m) -> (n, m), u on the scale of eta
        d = (fixed - own)[:, None] + u[..., None]
        kernel = np.where(y[:, None] > 0, y[:, None] * (d - np.expm1(d)), -np.exp(d))
        return kernel.sum(-1) - 0.5 * (u / sd) ** 2

    total = y.sum(1)
    u = np.log((total + 0.5) / np.exp(fixed).sum(1))
    for _ in range(100):
        mean = np.exp(fixed + u[:, None]).sum(1)
        step = (total - mean - u / sd**2) / (mean + sd**-2)
        u = u + np.clip(step, -1.0, 1.0)
    spread = 1 / np.sqrt(np.exp(fixed + u[:, None]).sum(1) + sd**-2)
    node, weight = np.polynomial.hermite_e.hermegauss(41)
    terms = height(u[:, None] + spread[:, None] * node) + 0.5 * node**2 + np.log(weight)
    constant = np.log(spread / sd) - 0.5 * np.log(2 * np.pi)
    return float((logsumexp(terms, axis=1) + constant).sum() + saturated.sum())


def dense_crossed_poisson(x: np.ndarray, y: np.ndarray, X: np.ndarray, Z: np.ndarray) -> float:
    """Laplace's approximation of log p(y) with two random intercepts, Z (N, q1 + q2) scaled by sd.

    x = (beta, log sd1, log sd2); the first 25 columns of Z are those of the first factor.
    """
    sd = np.exp(np.repeat(x[-2:], [25, Z.shape[1] - 25]))
    fixed, A, u = X @ x[:-2] - np.log(y), Z * sd, np.zeros(Z.shape[1])
    for _ in range(60):
        mean = y * np.exp(fixed + A @ u)
        P = A.T @ (mean[:, None] * A) + np.eye(len(u))
        step = np.linalg.solve(P, A.T @ (y - mean) - u)
        u = u + step * min(1.0, 2.0 / np.abs(A @ step).max())
    d = fixed + A @ u
    P = A.T @ ((y * np.exp(d))[:, None] * A) + np.eye(len(u))
    saturated = y * np.log(y) - y - gammaln(y + 1)
    kernel = (y * (d - np.expm1(d)) + saturated).sum() - 0.5 * u @ u
    return float(kernel - 0.5 * np.linalg.slogdet(P)[1])


def at_maximum(fit: Fit, log_likelihood) -> tuple[np.ndarray, np.ndarray, float]:
    """x of a fit, its distance from the maximum and the largest error of its standard errors."""
    x = np.append(fit.fixef(), np.log(fit.var_corr()["sdcor"]))
    own = np.append(fit.std_errors(), fit.var_corr()["se_working"])
    se = np.minimum(own, 0.5)
    step, eye = 0.05 * se, np.eye(len(x))
    up = [log_likelihood(x + h * e) for h, e in zip(step, eye, strict=True)]
    down = [log_likelihood(x - h * e) for h, e in zip(step, eye, strict=True)]
    gradient = (np.array(up) - down) / (2 * step)
    H = np.empty((len(x), len(x)))
    for i, a in enumerate(step[:, None] * eye):
        for j, b in enumerate(step[:, None] * eye):
            four = (log_likelihood(x + s * a + t * b) * s * t for s in (1, -1) for t in (1, -1))
            H[i, j] = -sum(four) / (4 * step[i] * step[j])
    covariance = np.linalg.inv(H)
    return x, covariance @ gradient / own, np.abs(own / np.sqrt(np.diag(covariance)) - 1).max()


def counts(mean: float, over: float, seed: int, n: int = 25, J: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"id": np.repeat(np.arange(n), J), "x": rng.normal(size=n * J)})
    data["g"] = np.repeat(rng.integers(0, 2, n), J).astype(float)
    data["hours"] = np.exp(rng.uniform(0, 5, n * J))
    eta = 0.3 * data["x"] + rng.normal(size=n)[data["id"]] + over * rng.normal(size=n * J)
    return data.assign(y=rng.poisson(mean * data["hours"] * np.exp(eta) / 30).astype(float))


@pytest.mark.parametrize("likelihood", ["quadrature", "laplace"])
@pytest.mark.parametrize(("mean", "over"), [(1e5, 0.0), (1e6, 0.5), (1e7, 0.0), (1e7, 1.0)])
def test_the_maximum_is_that_of_dense_quadrature(mean: float, over: float, likelihood: str) -> None:
    data = counts(mean, over, seed=int(mean / 1e5) + int(10 * over))
    formula = "y ~ x + g + offset(log(hours)) + (1 | id)"
    fit = mixed_model(formula, data, family="poisson", likelihood=likelihood, verbose=0)
    X = np.column_stack([np.ones(len(data)), data["x"], data["g"]]).reshape(25, 5, 3)
    y, hours = data["y"].to_numpy().reshape(25, 5), data["hours"].to_numpy().reshape(25, 5)
    oracle = partial(dense_poisson, y=y, X=X, offset=np.log(hours))
    x, away, ratio = at_maximum(fit, oracle)
    assert fit.estimate.converged
    # with counts this large Laplace's approximation is right to the same digits
    assert float(fit.loglik()) == pytest.approx(oracle(x), rel=1e-12, abs=1e-4)
    assert np.abs(away).max() < 1e-3
    assert ratio < 2e-3


def test_importance_sampling_follows() -> None:
    """A posterior a thousandth of a standard error wide: nodes leave it within a short step."""
    data, draws = counts(1e5, 0.0, seed=2), {"draws": 64, "polish_draws": 64, "hessian_draws": 64}
    formula = "y ~ x + g + offset(log(hours)) + (1 | id)"
    fit, exact = (
        mixed_model(formula, data, family="poisson", likelihood=word, control=draws, verbose=0)
        for word in ("importance", "quadrature")
    )
    assert fit.estimate.converged
    assert float(fit.loglik()) == pytest.approx(float(exact.loglik()), abs=0.01)
    gap = (fit.fixef() - exact.fixef()) / exact.std_errors()
    assert np.abs(gap).max() < 0.01
    np.testing.assert_allclose(fit.std_errors(), exact.std_errors(), rtol=0.01)


def test_one_count_of_a_billion_among_ordinary_ones() -> None:
    data = at(frame(), 2, "c", 1e9)
    fit = mixed_model("c ~ x + (1 | id)", data, family="poisson", verbose=0)
    X = np.column_stack([np.ones(len(data)), data["x"]]).reshape(60, 6, 2)
    y = data["c"].to_numpy().reshape(60, 6)
    x, away, ratio = at_maximum(fit, partial(dense_poisson, y=y, X=X, offset=np.zeros((60, 6))))
    assert fit.estimate.converged
    assert float(fit.loglik()) == pytest.approx(-1786579442.1, abs=0.05)
    np.testing.assert_allclose(x, [0.6475, 0.14633, np.log(2.699)], atol=1e-3)
    assert np.abs(away).max() < 2e-3  # what double precision leaves of a billion
    assert ratio < 2e-3


@pytest.mark.parametrize(("mean", "over"), [(1e6, 0.5), (1e7, 1.0)])
def test_crossed_factors(mean: float, over: float) -> None:
    data = counts(mean, over, seed=3)
    data["w"] = np.random.default_rng(0).integers(0, 10, len(data))
    data["y"] = np.round(data["y"] * np.exp(0.5 * np.cos(4.0 * data["w"]))) + 1.0
    fit = mixed_model("y ~ x + g + (1 | id) + (1 | w)", data, family="poisson", verbose=0)
    X = np.column_stack([np.ones(len(data)), data["x"], data["g"]])
    Z = np.column_stack([np.eye(25)[data["id"]], np.eye(10)[data["w"]]])
    oracle = partial(dense_crossed_poisson, y=data["y"].to_numpy(), X=X, Z=Z)
    x, away, ratio = at_maximum(fit, oracle)
    assert fit.estimate.converged
    assert float(fit.loglik()) == pytest.approx(oracle(x), rel=1e-12, abs=1e-4)
    assert np.abs(away).max() < 1e-3
    assert ratio < 2e-3
