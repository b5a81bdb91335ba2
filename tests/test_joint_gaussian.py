"""Several Gaussian outcomes: nlme and glmmTMB on stacked rows, a dense density, differences."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import no_slopes
from toys import check_information, random_theta

import dgmm
from dgmm import mv
from dgmm.likelihood import choose
from dgmm.likelihood.numerical import LinearGaussian
from dgmm.multivariate.fit import MultivariateFit

HERE = Path(__file__).parent / "reference"
FORMULAS = ("y1 ~ time + group + (1 + time |p| id)", "y2 ~ time + (1 + time |p| id)")


def several() -> pd.DataFrame:
    return pd.read_csv(HERE / "several.csv")


@pytest.fixture(scope="module")
def stored() -> dict:
    return json.loads((HERE / "several.json").read_text())


@pytest.fixture(scope="module")
def fit() -> MultivariateFit:
    return dgmm.mixed_model(mv(*FORMULAS), several())


def test_two_outcomes_are_those_of_nlme_and_glmmtmb_on_stacked_rows(fit, stored) -> None:
    by_lme, by_tmb = stored["lme"], stored["glmmTMB"]
    assert float(fit.loglik()) == pytest.approx(by_lme["logLik"], abs=1e-6)
    assert float(fit.loglik()) == pytest.approx(by_tmb["logLik"], abs=1e-6)
    beta, se = fit.fixef(), fit.std_errors()
    names = {
        "a": ("y1", "(Intercept)"), "a:time": ("y1", "time"), "a:group": ("y1", "group"),
        "b": ("y2", "(Intercept)"), "b:time": ("y2", "time"),
    }  # fmt: skip
    for theirs, ours in names.items():
        assert beta[ours] == pytest.approx(by_tmb["fixef"][theirs], abs=1e-4 * se[ours])
        assert se[ours] == pytest.approx(by_tmb["se"][theirs], rel=1e-4)
    sigma = fit.sigma()
    assert sigma["y1"] == pytest.approx(by_lme["sigma"]["a"], rel=1e-4)
    assert sigma["y2"] == pytest.approx(by_lme["sigma"]["b"], rel=1e-4)
    D = np.array(by_lme["D"])  # a, b, a:time, b:time
    sd = np.sqrt(np.diag(D))
    order = ["y1:(Intercept)", "y2:(Intercept)", "y1:time", "y2:time"]
    ours = fit.correlation().loc[order, order].to_numpy()
    np.testing.assert_allclose(ours, D / np.outer(sd, sd), atol=5e-4)


def test_the_restricted_likelihood_is_that_of_nlme(stored) -> None:
    fit = dgmm.mixed_model(mv(*FORMULAS), several(), method="reml")
    assert float(fit.loglik()) == pytest.approx(stored["reml"]["logLik"], abs=1e-6)
    for ours, theirs in ((("y1", "group"), "a:group"), (("y2", "time"), "time:b")):
        assert fit.fixef()[ours] == pytest.approx(stored["reml"]["fixef"][theirs], abs=2e-5)


def test_value_gradient_and_hessian_are_those_of_the_dense_density(fit) -> None:
    done = fit.estimate
    model = done.model
    theta = random_theta(model, 4, 0.4)
    ours = choose(model, done.panel, "exact")
    other = LinearGaussian(model, done.panel)
    assert ours.value(theta) == pytest.approx(other.value(theta), abs=1e-9 * 3000)
    pack = model.packing.pack
    slope = pack(ours.value_and_gradient(theta)[1])
    torch.testing.assert_close(
        slope, pack(other.value_and_gradient(theta)[1]), atol=1e-8, rtol=1e-10
    )
    check_information(ours, theta)
    each = ours.each(theta).value
    assert float(each.sum()) == pytest.approx(ours.value(theta), abs=1e-7)


def test_without_correlation_the_joint_model_is_the_separate_ones() -> None:
    data = several()
    joint = dgmm.mixed_model(
        mv("y1 ~ time + group + (1 + time | id)", "y2 ~ time + (1 + time | id)"), data
    )
    apart = [
        dgmm.mixed_model("y1 ~ time + group + (1 + time | id)", data),
        dgmm.mixed_model("y2 ~ time + (1 + time | id)", data),
    ]
    total = sum(float(one.loglik()) for one in apart)
    assert float(joint.loglik()) == pytest.approx(total, abs=1e-7)
    for name, one in zip(("y1", "y2"), apart, strict=True):
        np.testing.assert_allclose(joint.fixef()[name], one.fixef(), atol=1e-5)
        np.testing.assert_allclose(joint.std_errors()[name], one.std_errors(), rtol=1e-4)


def test_a_variance_of_zero_is_said_and_costs_nothing() -> None:
    rng, n = np.random.default_rng(1), 40
    data = pd.DataFrame({"id": np.repeat(np.arange(n), 4)})
    data["a"] = rng.normal(size=n)[data.id] + rng.normal(size=4 * n)
    noise = rng.normal(size=(n, 4))
    data["b"] = (noise - noise.mean(1, keepdims=True)).ravel() + 0.01 * rng.normal(size=4 * n)
    fit = dgmm.mixed_model(mv("a ~ 1 + (1 |p| id)", "b ~ 1 + (1 |p| id)"), data)
    apart = [float(dgmm.mixed_model(f"{y} ~ 1 + (1 | id)", data).loglik()) for y in "ab"]
    assert fit.is_singular()
    assert any("boundary (singular) fit" in message for message in fit.messages)
    assert sum(apart) - 1e-7 < float(fit.loglik()) < sum(apart) + 1e-3


def test_a_start_on_the_boundary() -> None:
    """Of outcomes with singular fits and no random part in common: the sum of the two."""
    frame = no_slopes()
    rng = np.random.default_rng(8)
    frame["z"] = frame["y"] + rng.normal(size=len(frame))
    formulas = ("y ~ t + (t | id)", "z ~ t + (t | id)")
    apart = [dgmm.mixed_model(one, frame, verbose=0) for one in formulas]
    assert apart[0].is_singular()
    both = dgmm.mixed_model(dgmm.mv(*formulas), frame, verbose=0)
    total = sum(float(one.loglik()) for one in apart)
    assert float(both.loglik()) == pytest.approx(total, abs=1e-6)
