"""Factor loadings: one latent variable measured twice, which acts on a binary outcome."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special, stats

import dgmm
from dgmm import mv

FAMILIES = ["gaussian", "bernoulli"]
FORMULAS = mv("w ~ 1 + (1 |p| id)", "y ~ 1 + load(p)")


def measured(seed: int, n: int, sd: float, loading: float) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    u = sd * rng.normal(size=n)
    data = pd.DataFrame({"id": np.repeat(np.arange(n), 2)})
    data["w"] = 2 + u[data.id] + 0.8 * rng.normal(size=2 * n)
    data["y"] = np.nan
    data.loc[::2, "y"] = (rng.random(n) < special.expit(-0.5 + loading * u)).astype(float)
    return data


def exact(data: pd.DataFrame, p: np.ndarray) -> float:
    """l of (mean, intercept, loading, sd, sigma): u given both w is normal, y over that."""
    mean, intercept, loading, sd, sigma = p
    w, y = data.w.to_numpy().reshape(-1, 2), data.y.to_numpy().reshape(-1, 2)[:, 0]
    points, weight = special.roots_hermitenorm(101)
    variance = 1 / (1 + 2 * sd**2 / sigma**2)
    centre = variance * sd * (w - mean).sum(1) / sigma**2
    u = sd * (centre[:, None] + np.sqrt(variance) * points)
    V = sd**2 + sigma**2 * np.eye(2)
    first = stats.multivariate_normal.logpdf(w - mean, np.zeros(2), V)
    eta = (2 * y - 1)[:, None] * (intercept + loading * u)
    inner = special.logsumexp(np.log(weight / weight.sum()) + special.log_expit(eta), axis=1)
    return float((first + inner).sum())


@pytest.mark.parametrize("loading", [0.9, -1.5])
def test_the_maximum_is_that_of_the_exact_conditional_quadrature(loading: float) -> None:
    data = measured(3, 150, 1.2, loading)
    fit = dgmm.mixed_model(FORMULAS, data, family=FAMILIES, se=None)
    found = optimize.minimize(
        lambda p: -exact(data, p), [2.0, 0.0, loading, 1.0, 1.0], method="BFGS"
    )
    assert fit.estimate.converged
    assert float(fit.loglik()) == pytest.approx(-found.fun, abs=1e-5)
    table = fit.var_corr()
    own = float(table[table.kind == "loading"].sdcor.iloc[0])
    assert own == pytest.approx(found.x[2], rel=2e-3)
    assert float(fit.sigma()["w"]) == pytest.approx(abs(found.x[4]), rel=2e-3)
    shift = fit.coef()["y"]["(Intercept)"] - fit.fixef()["y", "(Intercept)"]
    np.testing.assert_allclose(shift, own * fit.ranef()["w:(Intercept)"], atol=1e-12)


def test_at_a_variance_of_zero_the_fit_says_that_loadings_are_not_known() -> None:
    rng, n = np.random.default_rng(5), 60
    e = rng.normal(size=n)
    data = pd.DataFrame({"id": np.repeat(np.arange(n), 2)})
    data["w"] = 2 + np.where(data.index % 2 == 0, 1, -1) * e[data.id]
    data["y"] = np.nan
    data.loc[::2, "y"] = (rng.random(n) < 0.4).astype(float)
    fit = dgmm.mixed_model(FORMULAS, data, family=FAMILIES)
    share, w = data.y.mean(), data.w
    null = stats.norm.logpdf(w, w.mean(), w.std(ddof=0)).sum()
    null += n * (share * np.log(share) + (1 - share) * np.log(1 - share))
    assert float(fit.loglik()) == pytest.approx(null, abs=1e-5)
    (note,) = [m for m in fit.messages if "boundary" in m]
    assert "loadings of `y` are not identified" in note


def test_a_gaussian_factor_model_is_its_dense_normal_density() -> None:
    """Three outcomes of one factor, two rows each: cov = l l' sd^2 + diag(sigma^2)."""
    rng, n, loadings = np.random.default_rng(2), 40, np.array([1.0, 0.6, -1.4])
    u = 0.9 * rng.normal(size=n)
    data = pd.DataFrame({"id": np.repeat(np.arange(n), 2)})
    for k, one in enumerate(loadings):
        data[f"x{k}"] = k + one * u[data.id] + (0.5 + 0.2 * k) * rng.normal(size=2 * n)
    fit = dgmm.mixed_model(
        mv("x0 ~ 1 + (1 |f| id)", "x1 ~ 1 + load(f)", "x2 ~ 1 + load(f)"), data, se=None
    )
    table = fit.var_corr()
    sd = float(table[table.kind == "sd"].sdcor.iloc[0])
    own = np.array([1.0, *table[table.kind == "loading"].sdcor])
    of_rows = np.repeat(own * sd, 2)
    V = np.outer(of_rows, of_rows) + np.diag(np.repeat(fit.sigma().to_numpy() ** 2, 2))
    y = np.concatenate([data[f"x{k}"].to_numpy().reshape(n, 2) for k in range(3)], axis=1)
    mean = np.repeat(fit.fixef().to_numpy(), 2)
    dense = stats.multivariate_normal.logpdf(y, mean, V).sum()
    assert fit.estimate.likelihood.word == "exact"
    assert float(fit.loglik()) == pytest.approx(float(dense), abs=1e-6)
    assert own[1:] == pytest.approx(loadings[1:], abs=0.3)


def test_an_infinite_loading_is_said_and_not_called_a_maximum() -> None:
    """The factor varies in y alone: l rises to that of a model in which w has no random part."""
    rng, n = np.random.default_rng(4), 50
    noise = rng.normal(size=(n, 4))
    data = pd.DataFrame({"id": np.repeat(np.arange(n), 4)})
    data["w"] = 2 + (noise - noise.mean(1, keepdims=True)).ravel()
    data["y"] = 1 + rng.normal(size=n)[data.id] + 0.6 * rng.normal(size=4 * n)
    with pytest.warns(UserWarning, match="loading of .* in `y` is infinite"):
        fit = dgmm.mixed_model(mv("w ~ 1 + (1 |p| id)", "y ~ 1 + load(p)"), data, se=None)
    own = float(dgmm.mixed_model("y ~ 1 + (1 | id)", data).loglik())
    null = stats.norm.logpdf(data.w, data.w.mean(), data.w.std(ddof=0)).sum()
    assert not fit.estimate.converged
    assert float(fit.loglik()) == pytest.approx(own + null, abs=1e-6)
    assert fit.estimate.likelihood.value(fit.estimate.theta) == pytest.approx(own + null, abs=1e-3)
