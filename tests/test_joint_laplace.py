"""Several outcomes of any family: Laplace with closed derivatives, quadrature, their twins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import special, stats

import dgmm
from dgmm import mv
from dgmm.likelihood import choose
from dgmm.likelihood.numerical import NodeLaplace


def mixed(n: int = 30, visits: int = 6) -> pd.DataFrame:
    """A Gaussian, a binary and two count outcomes with correlated intercepts and gaps."""
    rng = np.random.default_rng(8)
    D = 0.5 * np.eye(4) + 0.4
    b = rng.multivariate_normal(np.zeros(4), D, n)
    data = pd.DataFrame({"id": np.repeat(np.arange(n), visits), "t": np.tile(np.arange(visits), n)})
    i = data.id
    data["y"] = 1 + 0.3 * data.t + b[i, 0] + 0.6 * rng.normal(size=len(data))
    data["z"] = (rng.random(len(data)) < special.expit(0.2 + b[i, 1])).astype(float)
    data["c"] = rng.poisson(np.exp(0.5 + 0.1 * data.t + 0.5 * b[i, 2])).astype(float)
    data["k"] = rng.negative_binomial(2, 0.4, len(data)).astype(float)
    for name, share in (("y", 0.2), ("z", 0.3), ("c", 0.1)):
        data.loc[rng.random(len(data)) < share, name] = np.nan
    return data


@pytest.fixture(scope="module")
def four() -> dgmm.MultivariateFit:
    return dgmm.mixed_model(
        mv("y ~ t + (1 |p| id)", "z ~ t + (1 |p| id)", "c ~ t + (1 |p| id)", "k ~ 1 + (1 |p| id)"),
        mixed(),
        family=["gaussian", "bernoulli", "poisson", "negative_binomial"],
        likelihood="laplace",
        se=None,
    )


def random_theta(model, spread: float) -> dict:
    generator = torch.Generator().manual_seed(2)
    return {
        name: spread * torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in model.packing.shapes.items()
    }


def test_the_value_is_that_of_the_generic_engine_for_canonical_links() -> None:
    fit = dgmm.mixed_model(
        mv("y ~ t + (1 + t |p| id)", "z ~ t + (1 |p| id)", "c ~ t + (1 |p| id)"),
        mixed(),
        family=["gaussian", "bernoulli", "poisson"],
        likelihood="laplace",
        se=None,
    )
    model, panel = fit.estimate.model, fit.estimate.panel
    theta = random_theta(model, 0.3)
    ours, other = choose(model, panel, "laplace"), NodeLaplace(model, panel)
    assert ours.value(theta) == pytest.approx(other.value(theta), abs=1e-7)


def test_the_gradient_is_that_of_differences_extra_parameters_included(four) -> None:
    model, panel = four.estimate.model, four.estimate.panel
    theta, pack = random_theta(model, 0.2), model.packing.pack
    ours, x, h = choose(model, panel, "laplace"), pack(theta), 1e-5
    slope = pack(ours.value_and_gradient(theta)[1])
    scores = ours.scores(theta)
    torch.testing.assert_close(scores.sum(0), slope)
    for j in range(len(x)):
        unit = torch.zeros_like(x)
        unit[j] = h
        ahead, behind = (ours.value(model.packing.unpack(x + s * unit)) for s in (1, -1))
        assert float(slope[j]) == pytest.approx((ahead - behind) / (2 * h), abs=2e-4)


@pytest.mark.parametrize("family", ["gamma", "student_t", "beta", "ordered_beta", "cumulative"])
def test_the_gradient_of_other_families(family: str) -> None:
    rng, data = np.random.default_rng(6), mixed(12, 5)
    b = rng.normal(size=12)[data.id]
    share = special.expit(b + rng.normal(size=len(data)))
    data["w"] = {
        "gamma": np.exp(b) * rng.gamma(2, 0.5, len(data)),
        "student_t": b + rng.standard_t(4, len(data)),
        "beta": share,
        "ordered_beta": np.where(share < 0.2, 0.0, np.where(share > 0.9, 1.0, share)),
        "cumulative": np.digitize(share, [0.3, 0.7]) + 1.0,
    }[family]
    bounds = [None, (0, 1)] if family.endswith("beta") else None
    fit = dgmm.mixed_model(
        mv("y ~ t + (1 |p| id)", "w ~ t + (1 |p| id)"),
        data,
        family=["gaussian", family],
        bounds=bounds,
        likelihood="laplace",
        se=None,
    )
    model, pack, h = fit.estimate.model, fit.estimate.model.packing.pack, 1e-5
    ours, x = choose(model, fit.estimate.panel, "laplace"), pack(fit.estimate.theta) + 0.05
    slope = pack(ours.value_and_gradient(model.packing.unpack(x))[1])
    for j in range(len(x)):
        unit = torch.zeros_like(x)
        unit[j] = h
        ahead, behind = (ours.value(model.packing.unpack(x + s * unit)) for s in (1, -1))
        assert float(slope[j]) == pytest.approx((ahead - behind) / (2 * h), abs=2e-4)


def test_a_joint_fit_ends_at_a_maximum_above_the_separate_ones(four) -> None:
    assert four.estimate.converged
    alone = sum(
        float(dgmm.mixed_model(f, mixed(), family=w, likelihood="laplace", se=None).loglik())
        for f, w in (
            ("y ~ t + (1 | id)", "gaussian"), ("z ~ t + (1 | id)", "bernoulli"),
            ("c ~ t + (1 | id)", "poisson"), ("k ~ 1 + (1 | id)", "negative_binomial"),
        )
    )  # fmt: skip
    assert float(four.loglik()) > alone + 5


def two() -> pd.DataFrame:
    return mixed()[["id", "t", "y", "z"]]


def grid(data: pd.DataFrame, fit: dgmm.MultivariateFit) -> float:
    """log p(y, z) by 25 x 25 Gauss-Hermite points of the correlated intercepts, Gaussian part by

    its conditional normal distribution: y integrated in closed form, z over b_z given b_y.
    """
    beta, sigma, table = fit.fixef(), float(fit.sigma()["y"]), fit.var_corr()
    sd = table[table.kind == "sd"].sdcor.to_numpy()[:2]
    rho = float(table[table.kind == "cor"].sdcor.iloc[0])
    points, weight = special.roots_hermitenorm(25)
    weight = np.log(weight / weight.sum())
    total = 0.0
    for _, own in data.groupby("id"):
        seen = own.dropna(subset=["y"])
        r = (seen.y - beta["y", "(Intercept)"] - beta["y", "t"] * seen.t).to_numpy()
        V = sd[0] ** 2 + sigma**2 * np.eye(len(r))
        total += stats.multivariate_normal.logpdf(r, np.zeros(len(r)), V) if len(r) else 0.0
        precision = 1 / sd[0] ** 2 + len(r) / sigma**2
        mean, spread = r.sum() / sigma**2 / precision, precision**-0.5
        by = mean + spread * points[:, None]
        bz = rho * sd[1] / sd[0] * by + sd[1] * np.sqrt(1 - rho**2) * points
        z = own.dropna(subset=["z"])
        eta = beta["z", "(Intercept)"] + beta["z", "t"] * z.t.to_numpy() + bz[..., None]
        height = special.log_expit((2 * z.z.to_numpy() - 1) * eta).sum(-1)
        total += special.logsumexp(height + weight[:, None] + weight)
    return float(total)


def test_a_gaussian_and_a_binary_outcome_are_the_integral_by_25_by_25_points() -> None:
    data = two()
    fit = dgmm.mixed_model(
        mv("y ~ t + (1 |p| id)", "z ~ t + (1 |p| id)"),
        data,
        family=["gaussian", "bernoulli"],
        control={"points": 25},
        se=None,
    )
    assert float(fit.loglik()) == pytest.approx(grid(data, fit), abs=1e-5)
    default = dgmm.mixed_model(
        mv("y ~ t + (1 |p| id)", "z ~ t + (1 |p| id)"), data, family=["gaussian", "bernoulli"]
    )
    assert float(default.loglik()) == pytest.approx(float(fit.loglik()), abs=0.01)
    assert default.vcov().loc[("z", "t"), ("z", "t")] > 0


def test_independent_outcomes_are_the_sum_of_separate_fits() -> None:
    data, control = two(), {"points": 25}
    joint = dgmm.mixed_model(
        mv("y ~ t + (1 | id)", "z ~ t + (1 | id)"),
        data,
        family=["gaussian", "bernoulli"],
        control=control,
        se=None,
    )
    apart = [
        dgmm.mixed_model(f, data, family=family, control=control, se=None)
        for f, family in (("y ~ t + (1 | id)", "gaussian"), ("z ~ t + (1 | id)", "bernoulli"))
    ]
    total = sum(float(one.loglik()) for one in apart)
    assert float(joint.loglik()) == pytest.approx(total, abs=1e-6)


def test_a_step_to_a_mode_that_overflows_is_shortened() -> None:
    """Counts beside a Gaussian outcome, few subjects: e^eta has no value at the first steps."""
    rng, n, visits = np.random.default_rng(0), 5, 5
    ids, t = np.repeat(np.arange(n), visits), np.tile(np.arange(5.0), n)
    b = 2 * rng.normal(size=n)[ids]
    data = pd.DataFrame({"id": ids, "t": t, "x": rng.normal(size=n * visits)})
    eta = 0.3 * data["x"] + 0.2 * t + b
    data["y"] = eta + rng.normal(size=n * visits)
    data["n"] = rng.poisson(np.exp(0.5 * eta))
    formulas, options = ("y ~ x + t + (t | id)", "n ~ t + (1 | id)"), {"se": None, "verbose": 0}
    joint = dgmm.mixed_model(
        mv(*formulas), data, family=["gaussian", "poisson"], likelihood="laplace", **options
    )
    total = float(dgmm.mixed_model(formulas[0], data, **options).loglik()) + float(
        dgmm.mixed_model(
            formulas[1], data, family="poisson", likelihood="laplace", **options
        ).loglik()
    )
    assert float(joint.loglik()) == pytest.approx(total, abs=1e-6)


def test_laplace_of_binary_outcomes_near_the_importance_sampled_value() -> None:
    """Many visits: the approximation is near the likelihood, and says how near."""
    rng, n, visits = np.random.default_rng(0), 100, 20
    b = rng.multivariate_normal(np.zeros(3), 0.5 + 0.5 * np.eye(3), n)
    data = pd.DataFrame({"id": np.repeat(np.arange(n), visits)})
    for k in range(3):
        data[f"z{k}"] = (rng.random(len(data)) < special.expit(b[data.id, k])).astype(float)
    fit = dgmm.mixed_model("mv(z0, z1, z2) ~ 1 + (1 | id)", data, family="bernoulli", se=None)
    done = fit.estimate
    assert done.likelihood.word == "quadrature"
    by_laplace = choose(done.model, done.panel, "laplace")
    value = by_laplace.value(done.theta)
    compared = by_laplace.compared(done.theta, value)
    assert compared is not None
    gap = value + compared.difference - float(fit.loglik())
    assert abs(gap) < 4 * compared.error + done.mc_error


def test_a_singular_covariance_is_a_maximum() -> None:
    """z has the intercept of y times a number: a factor of D is known up to a turn."""
    rng, n, visits = np.random.default_rng(8), 40, 5
    i, (b, c) = np.repeat(np.arange(n), visits), rng.normal(size=(2, n))
    data = pd.DataFrame({"id": i, "t": np.tile(np.linspace(-1, 1, visits), n)})
    data["y"] = 1 + data.t + b[i] + 0.6 * rng.normal(size=len(i))
    data["z"] = rng.poisson(np.exp(1 + 0.4 * b[i] + 0.5 * c[i] * data.t)).astype(float)
    data.loc[::3, "z"] = np.nan
    formulas = mv("y ~ t + (1 |p| id)", "z ~ 1 + (t |p| id)")
    families = ["gaussian", "poisson"]
    done = dgmm.mixed_model(formulas, data, family=families, se=None, likelihood="laplace").estimate
    assert done.converged
    engine = done.likelihood.engine
    x = engine.vector(done.theta)
    slope = engine.value_and_gradient(x).gradient
    H = [
        engine.value_and_gradient(x + h).gradient - engine.value_and_gradient(x - h).gradient
        for h in 1e-4 * np.eye(len(x))
    ]
    size, turn = np.linalg.eigh(np.array(H) / 2e-4)
    assert size.max() < 1e-4  # no way up
    assert np.abs(turn.T @ slope).max() < 0.02


def test_predictions_are_around_the_mean_of_the_effects() -> None:
    data = mixed(40, 5)
    fit = dgmm.mixed_model(
        mv("z ~ t + (1 |p| id)", "c ~ t + (1 |p| id)"),
        data,
        family=["bernoulli", "poisson"],
        likelihood="laplace",
        se=None,
    )
    done = fit.estimate
    nodes = choose(done.model, done.panel, "quadrature").posterior(done.theta)
    normal = done.likelihood.posterior(done.theta)
    exact = nodes.predictive(done.panel, "link").mean
    gap = normal.predictive(done.panel, "link").mean - exact
    still = replace(normal, shift=torch.zeros_like(normal.shift))
    at_mode = still.predictive(done.panel, "link").mean - exact
    assert float(gap.norm()) < 0.25 * float(at_mode.norm())
    by_differences = replace(normal, shift=None).predictive(done.panel, "link").mean - exact
    assert torch.allclose(by_differences, gap, atol=1e-7, rtol=0)
    # the score equations of the intercepts: predictions add up to the outcomes
    told = fit.fitted()
    for name, least in (("z", 0.002), ("c", 0.01)):
        seen = data[name].notna()
        assert abs(float((told[name] - data[name])[seen].mean())) < least


def test_a_shift_is_taken_up_to_one_standard_deviation(four) -> None:
    done = four.estimate
    normal = done.likelihood.posterior(done.theta)
    far = replace(normal, shift=1e3 * torch.ones_like(normal.shift))
    far, near = (one.predictive(done.panel, "link") for one in (far, normal))
    assert float(((far.mean - near.mean).square() / near.variance).max()) < (1 + 0.5) ** 2
