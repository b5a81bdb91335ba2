"""Models without a fixed part start, fit in every engine, and are what drop1() compares with."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special, stats
from toys import frame

from dgmm import Fit, mixed_model
from dgmm.design import build_design
from dgmm.estimate.pilot import pilot
from dgmm.families import find
from dgmm.formula import parse_formula
from dgmm.latent import structures, words

NODES = np.linspace(-8, 8, 401)  # the trapezoidal rule
MASSES = stats.norm.pdf(NODES) / stats.norm.pdf(NODES).sum()


def panel() -> pd.DataFrame:
    data = frame(40, 6, seed=3)
    return data.assign(rating=np.digitize(data["y"], [-1.0, 1.0, 3.0]), y=data["y"] - 1)


def integrated(log_density: np.ndarray, subject: pd.Series) -> float:
    """Log-likelihood of a random intercept from log p(y | b), (N, nodes)."""
    by_subject = pd.DataFrame(log_density).groupby(np.asarray(subject)).sum().to_numpy()
    return float(special.logsumexp(by_subject, b=MASSES, axis=1).sum())


def ordinal(theta: np.ndarray, data: pd.DataFrame) -> float:
    """Log-likelihood of thresholds (3) and log SD."""
    ends = np.concatenate([[-np.inf], theta[:3], [np.inf]])
    eta = np.exp(theta[3]) * NODES
    y = data["rating"].to_numpy()
    share = special.expit(ends[y + 1, None] - eta) - special.expit(ends[y, None] - eta)
    return integrated(np.log(np.maximum(share, 1e-300)), data["id"])


def fit(formula: str, **options: object) -> Fit:
    return mixed_model(formula, panel(), verbose=0, **options)


@pytest.mark.parametrize("options", [{}, {"method": "reml"}, {"likelihood": "quadrature"}])
def test_a_gaussian_model_of_random_effects_alone(options: dict) -> None:
    data, found = panel(), fit("y ~ 0 + (1 | id)", **options)
    between, within = found.var_corr()["vcov"]
    V = within * np.eye(6) + between

    def loss(log_var: np.ndarray) -> float:
        V = np.exp(log_var[1]) * np.eye(6) + np.exp(log_var[0])
        y = data["y"].to_numpy().reshape(40, 6)
        return -stats.multivariate_normal(np.zeros(6), V).logpdf(y).sum()

    best = optimize.minimize(loss, np.log([between, within]), method="Nelder-Mead")
    assert float(found.loglik()) == pytest.approx(-best.fun, abs=1e-4)
    assert float(found.loglik()) == pytest.approx(-loss(np.log([between, within])), abs=1e-4)
    assert found.fixef().empty
    y = data["y"].to_numpy().reshape(40, 6)
    shrunk = y.sum(1) * between / V[0].sum()
    np.testing.assert_allclose(found.predict()["fit"], np.repeat(shrunk, 6), rtol=1e-6)
    assert "Fixed effects: none" in str(found.summary())


def test_counts_without_a_fixed_part() -> None:
    data, found = panel(), fit("count ~ 0 + (1 | id)", family="poisson")

    def loss(log_sd: float) -> float:
        mean = np.exp(np.exp(log_sd) * NODES)
        density = stats.poisson.logpmf(data["count"].to_numpy()[:, None], mean)
        return -integrated(density, data["id"])

    best = optimize.minimize_scalar(loss, bounds=(-2, 1), method="bounded")
    assert float(found.loglik()) == pytest.approx(-best.fun, abs=1e-3)
    laplace = fit("count ~ 0 + (1 | id)", family="poisson", likelihood="laplace")
    assert float(laplace.loglik()) == pytest.approx(-best.fun, abs=0.5)
    typical = found.predict(type="mean_subject", interval="confidence")
    assert (typical == [1.0, 0.0, 1.0, 1.0]).all(axis=None)  # exp(0): nothing is estimated


def test_thresholds_alone_are_the_null_model_of_drop1() -> None:
    data, null = panel(), fit("rating ~ 1 + (1 | id)", family="cumulative")
    start = [*null.family_parameters()["estimate"], 0.0]
    best = optimize.minimize(lambda theta: -ordinal(theta, data), start, method="BFGS")
    assert float(null.loglik()) == pytest.approx(-best.fun, abs=1e-3)
    one = fit("rating ~ x + (1 | id)", family="cumulative")
    table = one.drop1().table
    assert table.loc["x", "LRT"] == pytest.approx(2 * (float(one.loglik()) + best.fun), abs=2e-3)
    assert table.loc["x", "npar"] == 1
    assert table.loc["x", "AIC"] == pytest.approx(null.aic(), abs=2e-3)
    assert null.anova(one).table.loc["model 2", "Chisq"] == pytest.approx(
        table.loc["x", "LRT"], abs=1e-3
    )
    profile = null.random_profile().table
    assert profile["sd"][0] == pytest.approx(null.var_corr()["sdcor"].iloc[0], rel=1e-8)


def test_crossed_and_deep_models_without_linear_terms() -> None:
    data = panel().assign(site=np.tile(np.arange(8), 30))
    crossed = mixed_model("y ~ 0 + (1 | id) + (1 | site)", data, verbose=0)
    Z = [np.eye(int(data[g].max()) + 1)[data[g]] for g in ("id", "site")]
    a, b, within = crossed.var_corr()["vcov"]
    V = a * Z[0] @ Z[0].T + b * Z[1] @ Z[1].T + within * np.eye(len(data))
    exact = stats.multivariate_normal(np.zeros(len(data)), V).logpdf(data["y"])
    assert float(crossed.loglik()) == pytest.approx(exact, abs=1e-6)
    deep = mixed_model("y ~ 0 + dnn(t, hidden=(3,)) + (1 | id)", data, verbose=0)
    between, within = deep.var_corr()["vcov"]
    V = between * Z[0] @ Z[0].T + within * np.eye(len(data))
    mean = deep.predict(type="mean_subject")["fit"].to_numpy()
    exact = stats.multivariate_normal(mean, V).logpdf(data["y"])
    assert float(deep.loglik()) == pytest.approx(exact, abs=1e-6)
    assert deep.fixef().empty


@pytest.mark.parametrize(
    ("text", "name"),
    [("z ~ x + t + (1 | id)", "bernoulli"), ("count ~ x + t + (1 | id)", "poisson")],
)
def test_a_rough_start_is_near_the_independence_model(text: str, name: str) -> None:
    parsed = parse_formula(text, latent_words=words(), structures=structures())
    design, family = build_design(parsed, frame(40, 6, seed=3)), find(name)
    eta, rough = pilot(design, family)[1], pilot(design, family, roughly=True)[1]
    X, y = design.fixed.matrix, design.y
    mean = family.link.inverse(eta).numpy()
    np.testing.assert_allclose(X.T @ (y - mean), 0.0, atol=1e-2)  # its score
    assert 1e-6 < float((rough - eta).abs().max()) < 0.25
