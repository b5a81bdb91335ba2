"""Intervals: standard deviations by integration, closed forms of normal outcomes, all families."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import data
from scipy import stats
from test_families import OPTIONS, VALUES
from torch import Tensor
from toys import frame, random_theta

from dgmm import Fit, mixed_model
from dgmm.design import build_design
from dgmm.estimate import Estimate
from dgmm.families import Observations, find
from dgmm.formula import parse_formula
from dgmm.latent import words
from dgmm.likelihood import Integration, choose
from dgmm.model import Model, build_model
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.plan import as_counted
from dgmm.prediction.intervals import Target, with_interval
from dgmm.prediction.options import Wanted

GRID = torch.linspace(-9.0, 9.0, 4001, dtype=torch.float64)
SLOW = ("hurdle_negative_binomial", "hurdle_poisson")  # the other hurdles stand for them
CASES = [
    (name, None) for name in sorted({*VALUES} - {*SLOW} | {"bernoulli", "binomial", "poisson"})
]
CASES += [("bernoulli", "probit"), ("bernoulli", "cloglog"), ("gaussian", "log")]


def drawn(name: str, link: str | None) -> tuple[Model, Panel, Theta]:
    """A random intercept model of a family at a theta, and outcomes drawn from the family."""
    family, table = find(name, link=link, **OPTIONS.get(name, {})), frame(n=4, J=3)
    extra = torch.tensor(VALUES.get(name, []), dtype=torch.float64)
    eta = torch.from_numpy(0.3 * table["x"].to_numpy() + 0.4)
    trials = torch.full_like(eta, 5.0 if family.support == "trials" else 1.0)
    rows = Observations(trials, trials, torch.ones_like(eta))
    y = family.simulate(eta, rows, extra, torch.Generator().manual_seed(1))
    if family.support == "ordered":
        y[:4] = torch.arange(1.0, 5.0)
    table = table.assign(y=y.numpy(), size=trials.numpy())
    left = "y / size" if family.support == "trials" else "y"
    formula = parse_formula(f"{left} ~ x + (1 | id)", latent_words=words())
    design = build_design(formula, table, ordered=family.support == "ordered",
                          intercept=family.intercept)  # fmt: skip
    design, family = as_counted(design, family)
    model = build_model(design, family, 1.0)
    theta = random_theta(model, seed=2, spread=0.4) | {"extra": extra}
    return model, Panel.from_design(design), theta


def target(model: Model, panel: Panel, theta: Theta, past: Panel) -> Target:
    likelihood = choose(model, panel, "quadrature", Integration(points=41))
    done = Estimate(likelihood, theta, 0.0, 0.0, 0.0, 0, True, method="quadrature")
    return Target(done, past, panel, 0)


def by_integration(
    model: Model, theta: Theta, panel: Panel, past: Panel | None = None
) -> tuple[Tensor, Tensor]:
    """E and SD of g^-1(eta) of every row over b given y, or over the population, on a grid."""
    subjects = torch.arange(panel.n)
    with torch.no_grad():
        ready, block = model.prepare(theta), panel.block(subjects)
        b = GRID[:, None, None].expand(-1, panel.n, 1)
        height = -0.5 * b.square()[..., 0]
        if past is not None:
            height = model.log_joint(ready, b, past.block(subjects))
        eta = model.mu1(ready, block.rows) + model.mu2(ready, b, block.rows)
        mean = model.family.mean(eta, model.extra(ready, block.rows))
        weight = torch.softmax(height, 0)[..., None]
        first = (weight * mean).sum(0)
        second = (weight * (mean - first).square()).sum(0)
    return first[block.mask], second[block.mask].sqrt()


def asked(found: Target, V: float, **options: Any) -> dict[str, Tensor]:
    """What predict() returns when beta-hat has the covariance V I and all else is known."""
    packing = found.done.model.packing.only(["beta"])
    vcov = V * torch.eye(packing.size, dtype=torch.float64)
    info: Any = SimpleNamespace(resampled=None, packing=packing, vcov=vcov, form="", messages=())
    given = {"type": "subject", "scale": "response", "interval": "confidence", "level": 0.95}
    wanted = Wanted(**{**given, **options}, new_groups="population", draws=1000)
    return with_interval(found, info, wanted)


@pytest.mark.parametrize(("name", "link"), CASES)
def test_standard_errors_are_those_of_the_posterior(name: str, link: str | None) -> None:
    """se^2 = var{g^-1(eta) | y} + V sum (d E{g^-1(eta) | y} / d beta)^2, with and without a y."""
    model, panel, theta = drawn(name, link)
    past = panel.keep(panel.subject > 0)
    rough = 3e-3 if name in ("censored_gaussian", "ordered_beta") else 1e-5  # kinks at the bounds
    mean, sd = by_integration(model, theta, panel, past)
    V, h, beta = 1e-2, 1e-4, theta["beta"]
    steps = h * torch.eye(len(beta), dtype=torch.float64)
    ends = [[theta | {"beta": beta + side * step} for side in (1, -1)] for step in steps]
    means = [[by_integration(model, one, panel, past)[0] for one in pair] for pair in ends]
    J = torch.stack([(up - down) / (2 * h) for up, down in means], dim=1)
    found = asked(target(model, panel, theta, past), V)
    torch.testing.assert_close(found["fit"], mean, rtol=rough, atol=0)
    expected = (sd.square() + V * J.square().sum(1)).sqrt()
    torch.testing.assert_close(found["se"], expected, rtol=max(rough, 1e-4), atol=1e-8)


@pytest.mark.parametrize(("name", "link"), CASES)
def test_the_link_of_the_population_is_that_of_its_mean(name: str, link: str | None) -> None:
    model, panel, theta = drawn(name, link)
    here = target(model, panel, theta, panel)
    mean, _ = by_integration(model, theta, panel)
    rough = 1e-5 if name == "censored_gaussian" else 1e-8
    found = asked(here, V=1e-4, type="marginal")
    torch.testing.assert_close(found["fit"], mean, rtol=rough, atol=0)
    of_link = asked(here, V=1e-4, type="marginal", scale="link")
    extra = model.extra(theta, panel.rows)
    torch.testing.assert_close(model.family.mean(of_link["fit"], extra), mean, rtol=rough, atol=0)
    if type(model.family).mean is not type(find("gaussian")).mean:
        return  # of the others the mean is g^-1(eta) and moves with eta alone
    expected = model.family.link.forward(mean)
    torch.testing.assert_close(of_link["fit"], expected, rtol=1e-8, atol=1e-8)
    slope = model.family.mean_slope(of_link["fit"], extra).abs()
    torch.testing.assert_close(of_link["se"], found["se"] / slope, rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize(("family", "link"), [("gamma", "inverse"), ("poisson", "sqrt")])
def test_so_it_is_where_the_inverse_link_bends_at_zero(family: str, link: str) -> None:
    """1 / eta and eta^2 are not monotone: a search on both sides of zero would find another eta."""
    rng, subject = np.random.default_rng(4), np.repeat(np.arange(40), 5)
    table = pd.DataFrame({"id": subject, "x": rng.normal(size=200)})
    level = np.exp((0.5 * table["x"] + rng.normal(size=40)[subject] + rng.normal(size=200)) / 6)
    table["y"] = level if family == "gamma" else np.round(9 * level)
    fit = mixed_model("y ~ x + (1 | id)", table, family=family, link=link, verbose=0)
    options = {"type": "marginal", "interval": "confidence"}
    new = table.head(10)  # far from zero
    eta, mean = (fit.predict(new, scale=scale, **options) for scale in ("link", "response"))
    inverse = {"inverse": lambda eta: 1 / eta, "sqrt": np.square}[link]
    np.testing.assert_allclose(inverse(eta["fit"]), mean["fit"], rtol=1e-10)
    slope = {"inverse": mean["fit"] ** 2, "sqrt": 2 * eta["fit"]}[link]
    np.testing.assert_allclose(slope * eta["se"], mean["se"], rtol=1e-3)


# -- closed forms ----------------------------------------------------------------------------------


def variances(fit: Fit, new: pd.DataFrame, type: str) -> np.ndarray:
    """var(eta) over theta-hat and over b, and sigma^2, at rows of the sleepstudy model."""
    X = np.column_stack([np.ones(len(new)), new["Days"]])
    found = fit.var_corr()["vcov"].to_numpy()
    D = np.array([[found[0], found[2]], [found[2], found[1]]])
    of_theta = np.einsum("np,pq,nq->n", X, fit.vcov(), X)
    between = np.einsum("np,pq,nq->n", X, D, X) if type == "marginal" else 0.0
    residual: np.ndarray = of_theta + between + fit.sigma() ** 2
    return residual


@pytest.mark.parametrize("type", ["mean_subject", "marginal"])
def test_prediction_intervals_of_gaussian_outcomes_are_in_closed_form(
    type: str, sleepstudy: Fit
) -> None:
    new = pd.DataFrame({"Days": [0.0, 3.0, 9.5], "Subject": "308"})
    mean = np.column_stack([np.ones(3), new["Days"]]) @ sleepstudy.fixef()
    sd = np.sqrt(variances(sleepstudy, new, type))
    for seed in (1, 2):
        found = sleepstudy.predict(new, type=type, interval="prediction", level=0.9, seed=seed)
        np.testing.assert_allclose(found["fit"], mean, rtol=1e-10)
        np.testing.assert_allclose(found["se"], sd, rtol=1e-5)
        for end in ("lower", "upper"):  # 18 subjects: t of some 17 df
            size = np.abs(found[end] - found["fit"]) / found["se"]
            assert (size > stats.norm.ppf(0.95)).all()
            assert (size < 1.1 * stats.t.ppf(0.95, 17)).all()


@pytest.mark.parametrize("interval", ["confidence", "prediction"])
@pytest.mark.parametrize("theta", ["estimated", "held"])
@pytest.mark.parametrize("name", ["sleepstudy", "epil"])
def test_several_levels_are_those_of_one_each(
    name: str, theta: str, interval: str, request: pytest.FixtureRequest
) -> None:
    fit = request.getfixturevalue(name)
    options = {"interval": interval, "theta": theta, "draws": 200}
    new = data(name).iloc[[0, 50]]
    found = fit.predict(new, level=[0.95, 0.5], **options)
    assert list(found) == ["fit", "se", "lower_50", "upper_50", "lower_95", "upper_95"]
    for level in (0.5, 0.95):
        own = fit.predict(new, level=level, **options)
        several = found[["fit", "se", f"lower_{100 * level:g}", f"upper_{100 * level:g}"]]
        np.testing.assert_array_equal(several, own)


def test_a_new_outcome_of_a_new_subject_is_one_of_anyone(sleepstudy: Fit) -> None:
    new = pd.DataFrame({"Days": [0.0, 9.5], "Subject": "nobody"})
    own = sleepstudy.predict(new, interval="prediction")
    anyone = sleepstudy.predict(new, type="marginal", interval="prediction")
    np.testing.assert_allclose(own, anyone, rtol=1e-6)


def test_prediction_intervals_where_the_engine_is_not_exact() -> None:
    """With dispersion= eta given y is normal all the same; what ML loses is not known there."""
    frame = data("sleepstudy")
    fit = mixed_model("Reaction ~ Days + (Days | Subject)", frame, dispersion="~ 1", verbose=0)
    exact = mixed_model("Reaction ~ Days + (Days | Subject)", frame, verbose=0)
    new = frame.iloc[[0, 5, 22]]
    for type in ("subject", "mean_subject", "marginal"):
        found = fit.predict(new, type=type, interval="prediction")
        expected = exact.predict(new, type=type, interval="prediction")
        np.testing.assert_allclose(found[["fit", "se"]], expected[["fit", "se"]], rtol=1e-4)
        np.testing.assert_allclose(found, expected, rtol=0.015)


def test_the_mean_subject_does_not_vary_between_subjects(epil: Fit) -> None:
    """y ~ Poisson(mu): the SD of a new outcome is the root of its mean."""
    new = data("epil").iloc[[0, 50]]
    mean = epil.predict(new, type="mean_subject")["fit"]
    found = epil.predict(new, type="mean_subject", interval="prediction", draws=20_000)
    se = epil.predict(new, type="mean_subject", interval="confidence")["se"]
    np.testing.assert_allclose(found["se"], np.sqrt(mean + se**2), rtol=0.05)
    wide = epil.predict(new, type="marginal", interval="prediction", draws=20_000)["se"]
    assert (wide > 1.3 * found["se"]).all()


def test_a_probability_has_no_standard_error_above_one_half(toenail: Fit) -> None:
    new = pd.DataFrame({"trt": [0.0, 1.0, 0.0], "time": [0.0, 3.0, 12.0], "patientID": "new"})
    found = toenail.predict(new, interval="confidence")
    assert (found["se"] < 0.5).all()
    bound = np.sqrt(found["fit"] * (1 - found["fit"]))  # of any distribution on (0, 1)
    assert (found["se"] < bound).all()
