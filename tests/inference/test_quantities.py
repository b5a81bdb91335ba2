"""Means of subjects and of the population, against quadrature, differences and predict()."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from conftest import data
from scipy.special import expit

from dgmm import Fit, mixed_model
from dgmm.design import rebuild
from dgmm.inference.quantities import Population
from dgmm.panel import Panel

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(120)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


@pytest.fixture(scope="module")
def logistic() -> Fit:
    """A random slope beside an intercept: the population depends on time twice."""
    random = np.random.default_rng(3)
    n, J = 120, 6
    time = np.tile(np.linspace(0.0, 2.0, J), n)
    b = random.normal(size=(2, n)) * [[1.5], [1.2]]
    eta = -0.5 + (0.6 + b[1].repeat(J)) * time + b[0].repeat(J)
    frame = pd.DataFrame(
        {
            "y": (random.random(n * J) < expit(eta)).astype(float),
            "time": time,
            "arm": np.where(np.arange(n * J) // J % 2, "drug", "placebo"),
            "id": np.arange(n).repeat(J),
        }
    )
    frame["arm"] = pd.Categorical(frame["arm"], ["placebo", "drug"])
    return mixed_model(
        "y ~ time * arm + (time | id)", frame, family="bernoulli", likelihood="laplace", verbose=0
    )


def population(fit: Fit, frame: pd.DataFrame, beta: np.ndarray | None = None) -> np.ndarray:
    """E expit(eta) row by row over the variance t'D t of the random part."""
    drug = (frame["arm"] == "drug").to_numpy(float)
    t = frame["time"].to_numpy(float)
    X = np.column_stack([np.ones(len(t)), t, drug, t * drug])
    sd = fit.var_corr()["sdcor"]
    T = np.column_stack([np.ones(len(t)), t])
    cross = sd.iloc[2] * sd.iloc[0] * sd.iloc[1]
    D = np.array([[sd.iloc[0] ** 2, cross], [cross, sd.iloc[1] ** 2]])
    spread = np.sqrt(np.einsum("ij,jk,ik->i", T, D, T))
    eta = X @ (fit.fixef().to_numpy() if beta is None else beta)
    return expit(eta[:, None] + spread[:, None] * NODES) @ WEIGHTS


def test_means_of_the_population_by_quadrature(logistic: Fit) -> None:
    table = logistic.effects(("time", "arm"), grid=5, scale="response")
    np.testing.assert_allclose(table["fit"], population(logistic, table), atol=1e-8)
    assert "population" in table.title
    new = table[["time", "arm"]].assign(id=-1)
    peer = logistic.predict(new, type="marginal", interval="confidence")
    for name in ("fit", "se", "lower", "upper"):
        np.testing.assert_allclose(table[name], peer[name], rtol=2e-4)


def test_means_of_the_subject_without_random_effects(logistic: Fit) -> None:
    options = {"scale": "response", "type": "mean_subject"}
    table = logistic.effects(("time", "arm"), grid=5, **options)
    line = logistic.effects(("time", "arm"), grid=5)
    for name in ("fit", "lower", "upper", "sim_lower", "sim_upper"):
        np.testing.assert_allclose(table[name], expit(line[name]), rtol=1e-10)
    np.testing.assert_allclose(table["se"], line["se"] * table["fit"] * (1 - table["fit"]))
    assert "random effects are zero" in table.title
    assert line.title == "Effects: linear predictor"


@pytest.mark.parametrize("type", ["marginal", "mean_subject"])
def test_slopes_of_the_response_by_differences(logistic: Fit, type: str) -> None:
    """Romberg's extrapolation of differences of predictions, good to 1e-11."""
    frame = logistic.memory.frame
    levels = []
    for h in (4e-3, 2e-3, 1e-3):
        up, down = (
            logistic.predict(frame.assign(time=frame["time"] + s), type=type)["fit"].mean()
            for s in (h, -h)
        )
        levels.append((up - down) / (2 * h))
    first = [(4 * b - a) / 3 for a, b in pairwise(levels)]
    expected = (16 * first[1] - first[0]) / 15
    found = logistic.slopes("time", scale="response", type=type)["Estimate"].iloc[0]
    assert found == pytest.approx(expected, abs=1e-8)


def test_differences_and_ratios_of_population_means(logistic: Fit) -> None:
    frame = logistic.memory.frame
    pair = {"arm": "drug"}, {"arm": "placebo"}
    p, q = (population(logistic, frame.assign(**one)).mean() for one in pair)
    expected = {"difference": p - q, "ratio": p / q, "odds_ratio": p / (1 - p) / (q / (1 - q))}
    errors = {}
    for compare, value in expected.items():
        line = logistic.contrast(*pair, scale="response", compare=compare).iloc[0]
        assert line["Estimate"] == pytest.approx(value, abs=1e-8)
        errors[compare] = line["Std. Error"]
        middle = line[["lower", "upper"]].to_numpy()
        centre = middle.mean() if compare == "difference" else np.sqrt(middle.prod())
        assert centre == pytest.approx(value, abs=1e-8)
        assert line["z value"] == pytest.approx(
            (value if compare == "difference" else value * np.log(value)) / line["Std. Error"]
        )
    # the delta method by hand: derivatives of both means in every parameter by differences
    info = logistic.information
    packing, theta = info.packing, logistic.estimate.theta
    x = packing.pack(theta).detach()
    quantity = Population(logistic.estimate)
    gradient = []
    for setting in pair:
        new = frame.assign(**setting)
        panel = _panel(logistic, new)
        slopes = []
        for j in range(len(x)):
            ends = []
            for s in (1e-5, -1e-5):
                moved = x.clone()
                moved[j] += s
                ends.append(float(quantity.value(packing.unpack(moved), panel).mean()))
            slopes.append((ends[0] - ends[1]) / 2e-5)
        gradient.append(np.array(slopes))
    V = info.vcov.numpy()
    apart = gradient[0] - gradient[1]
    assert errors["difference"] == pytest.approx(np.sqrt(apart @ V @ apart), rel=1e-5)
    logs = gradient[0] / p - gradient[1] / q
    assert errors["ratio"] == pytest.approx(p / q * np.sqrt(logs @ V @ logs), rel=1e-5)


def _panel(fit: Fit, frame: pd.DataFrame) -> Panel:
    return Panel.from_design(rebuild(fit.memory.spec, frame, outcome=False))


def test_ratios_of_subjects_are_exponentials_of_coefficients(cbpp: Fit, epil: Fit) -> None:
    odds = cbpp.contrast({"period": "2"}, {"period": "1"}, compare="odds_ratio").iloc[0]
    line = cbpp.coefficients().loc["period2"]
    assert odds["Estimate"] == pytest.approx(np.exp(line["Estimate"]), rel=1e-9)
    assert odds["z value"] == pytest.approx(line["z value"], rel=1e-7)
    ends = np.exp(cbpp.confint(parm="period2").to_numpy()[0])
    np.testing.assert_allclose(odds[["lower", "upper"]].to_numpy(float), ends, rtol=1e-7)
    with pytest.raises(ValueError, match="compare='ratio' of linear predictors needs the log link"):
        cbpp.contrast({"period": "2"}, {"period": "1"}, compare="ratio")
    with pytest.raises(ValueError, match="has 'logit': take compare='odds_ratio', or"):
        cbpp.emmeans("period").pairs(compare="ratio")
    rate = epil.contrast({"trt": "progabide"}, {"trt": "placebo"}, compare="ratio").iloc[0]
    assert rate["Estimate"] > 0


def test_rates_are_at_offset_zero_unless_told() -> None:
    frame = data("epil").assign(weeks=np.linspace(1.0, 4.0, len(data("epil"))))
    fit = mixed_model(
        "y ~ lage + trt + offset(log(weeks)) + (1 | subject)", frame, family="poisson", verbose=0
    )
    rate = fit.effects("lage", grid=3, scale="response")
    three = fit.effects("lage", grid=3, scale="response", offset=np.log(3.0))
    sd = fit.var_corr()["sdcor"].iloc[0]
    beta = fit.fixef()
    expected = np.exp(beta["(Intercept)"] + beta["lage"] * rate["lage"] + sd**2 / 2)
    np.testing.assert_allclose(rate["fit"], expected, rtol=1e-9)
    np.testing.assert_allclose(three["fit"], 3 * rate["fit"], rtol=1e-9)
    assert rate.title.endswith("offset held at 0 (a rate)")
    assert (rate["offset"] == 0).all()
    pair = {"trt": "progabide"}, {"trt": "placebo"}
    one, two = (fit.contrast(*pair, scale="response", offset=o) for o in (None, np.log(2.0)))
    assert two["Estimate"].iloc[0] == pytest.approx(2 * one["Estimate"].iloc[0], rel=1e-9)


def test_a_gaussian_mean_is_its_predictor(sleepstudy_reml: Fit) -> None:
    one = sleepstudy_reml.effects("Days", grid=4)
    two = sleepstudy_reml.effects("Days", grid=4, scale="response")
    np.testing.assert_allclose(one.to_numpy(), two.to_numpy(), rtol=1e-9)


def test_a_network_has_a_population_mean(curved_counts: Fit) -> None:
    table = curved_counts.effects("z", grid=4, scale="response")
    new = pd.DataFrame({"z": table["z"], **_held(curved_counts, "z"), "id": -1})
    peer = curved_counts.predict(new, type="marginal", interval="confidence")
    for name in ("fit", "se", "lower", "upper"):
        np.testing.assert_allclose(table[name], peer[name], rtol=1e-8)


def _held(fit: Fit, name: str) -> dict:
    return {key: value for key, value in fit.held_covariates().items() if key != name}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": "odds"}, "scale is 'link' or 'response', not 'odds'"),
        ({"scale": "response", "type": "subject"}, "type is 'marginal' or 'mean_subject'"),
        ({"type": "marginal"}, "type='marginal' averages means over the population"),
        ({"scale": "response", "term": "period"}, "is a part of the linear predictor"),
    ],
)
def test_words_are_checked(cbpp: Fit, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cbpp.effects("period", **options)
