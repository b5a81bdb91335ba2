"""Coefficients in common: nlme on stacked rows, a dense density, the model with one outcome."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from toys import check_information, random_theta

import dgmm
from dgmm import mv
from dgmm.formula import FormulaError
from dgmm.likelihood import choose
from dgmm.likelihood.numerical import LinearGaussian
from dgmm.multivariate.fit import MultivariateFit

HERE = Path(__file__).parent / "reference"
FORMULAS = ("y1 ~ time + group + (1 |p| id)", "y2 ~ time + group + (1 |p| id)")


def residual() -> pd.DataFrame:
    return pd.read_csv(HERE / "residual.csv")


@pytest.fixture(scope="module")
def fit() -> MultivariateFit:
    return dgmm.mixed_model(mv(*FORMULAS, shared="time"), residual())


def test_the_maximum_is_that_of_nlme(fit) -> None:
    stored = json.loads((HERE / "residual.json").read_text())["shared"]
    assert float(fit.loglik()) == pytest.approx(stored["logLik"], abs=1e-6)
    assert fit.df() == fit["y1"].df() == stored["df"]
    beta = fit.fixef()
    for theirs, ours in {
        "a": ("y1", "(Intercept)"), "time": ("y1", "time"), "b:group": ("y2", "group"),
    }.items():  # fmt: skip
        assert beta[ours] == pytest.approx(stored["fixef"][theirs], abs=2e-5)
    assert beta["y1", "time"] == pytest.approx(beta["y2", "time"], abs=1e-12)
    assert fit.sigma()["y2"] == pytest.approx(stored["sigma"]["b"], rel=1e-4)


def test_derivatives_are_those_of_the_dense_density(fit) -> None:
    model = fit.estimate.model
    theta = random_theta(model, 4, 0.4)
    pack = model.packing.pack
    dense = LinearGaussian(model, fit.estimate.panel)
    for word in ("exact", "laplace"):
        ours = choose(model, fit.estimate.panel, word)
        assert ours.value(theta) == pytest.approx(dense.value(theta), abs=1e-8)
        expected = pack(dense.value_and_gradient(theta)[1])
        torch.testing.assert_close(
            pack(ours.value_and_gradient(theta)[1]), expected, atol=1e-7, rtol=1e-9
        )
        torch.testing.assert_close(ours.scores(theta).sum(0), expected, atol=1e-7, rtol=1e-9)
    ours = choose(model, fit.estimate.panel, "exact")
    check_information(ours, theta)


def test_standard_errors_of_common_coefficients_are_one(fit) -> None:
    V = fit.vcov()
    assert V.loc[("y1", "time"), ("y2", "time")] == pytest.approx(
        V.loc[("y1", "time"), ("y1", "time")], rel=1e-10
    )
    np.testing.assert_allclose(fit["y2"].std_errors(), fit.std_errors()["y2"], rtol=1e-10)
    apart = dgmm.mixed_model(mv(*FORMULAS), residual())
    assert fit.std_errors()["y1", "time"] < apart.std_errors()["y1", "time"]
    assert float(fit.loglik()) < float(apart.loglik())
    assert apart.df() == fit.df() + 1


def test_all_coefficients_in_common_are_one_model_of_stacked_rows() -> None:
    """The same outcome twice: its model of one outcome on twice the subjects."""
    data = residual()[["id", "time", "group", "y1"]].dropna()
    both = pd.concat([data, data.assign(id=data.id + "x")])
    wide = both.assign(a=both.y1.where(~both.id.str.endswith("x")))
    wide["b"] = both.y1.where(both.id.str.endswith("x"))
    one = dgmm.mixed_model("y1 ~ time + group + (1 | id)", both)
    fit = dgmm.mixed_model(
        mv(
            "a ~ time + group + (1 | id)",
            "b ~ time + group + (1 | id)",
            shared="1 + time + group",
        ),
        wide,
    )
    assert float(fit.loglik()) == pytest.approx(float(one.loglik()), abs=1e-7)
    for name in "ab":
        np.testing.assert_allclose(fit.fixef()[name], one.fixef(), atol=1e-6)
        np.testing.assert_allclose(fit.std_errors()[name], one.std_errors(), rtol=1e-5)


def test_outcomes_of_other_families_share_by_quadrature_and_laplace() -> None:
    rng, n = np.random.default_rng(3), 60
    data = pd.DataFrame({"id": np.repeat(np.arange(n), 5), "x": rng.normal(size=5 * n)})
    b = rng.normal(size=n)[data.id]
    for name, shift in (("a", 0.3), ("b", -0.4)):
        p = 1 / (1 + np.exp(-(shift + 0.8 * data.x + b)))
        data[name] = (rng.random(5 * n) < p).astype(float)
    stacked = data.melt(id_vars=["id", "x"], value_vars=["a", "b"], var_name="item", value_name="y")
    one = dgmm.mixed_model(
        "y ~ 0 + item + x + (1 | id)", stacked, family="bernoulli", likelihood="laplace"
    )
    fit = dgmm.mixed_model(
        mv("a ~ x + (1 |f| id)", "b ~ x + (1 |f| id)", shared="x"),
        data, family="bernoulli", likelihood="laplace",
    )  # fmt: skip
    # one random intercept is a correlation of one: the joint model holds the stacked one
    assert float(fit.loglik()) >= float(one.loglik()) - 1e-6
    assert fit.fixef()["a", "x"] == pytest.approx(fit.fixef()["b", "x"], abs=1e-12)
    assert fit.fixef()["a", "x"] == pytest.approx(one.fixef()["x"], abs=0.5 * one.std_errors()["x"])
    by_nodes = dgmm.mixed_model(fit.several, data, family="bernoulli", se=None)
    assert by_nodes.estimate.likelihood.word == "quadrature"
    assert by_nodes.fixef()["a", "x"] == pytest.approx(
        fit.fixef()["a", "x"], abs=0.3 * fit.std_errors()["a", "x"]
    )


def test_what_is_shared_is_said_and_kept(fit, tmp_path: Path) -> None:
    assert "Coefficients in common: time" in str(fit.summary())
    assert fit.formula.endswith('shared="time")')
    fit.save(tmp_path / "shared.dgmm")
    read = dgmm.load(tmp_path / "shared.dgmm")
    assert str(read.summary()) == str(fit.summary())
    with pytest.raises(ValueError, match="no special case"):
        fit.anova()
    assert fit.anova(dgmm.mixed_model(mv(*FORMULAS), residual()))["Df"].iloc[1] == 1


@pytest.mark.parametrize(
    ("shared", "words"),
    [
        ("age", "`age` one coefficient in several outcomes, and of the formulas none has"),
        ({"time": ("y1", "y3")}, "'y3'; there are y1, y2"),
        ({"time": ("y1",)}, "names one outcome for `time`, `y1`"),
    ],
)
def test_terms_that_cannot_be_in_common(shared, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        dgmm.mixed_model(mv(*FORMULAS, shared=shared), residual())


def test_words_of_shared() -> None:
    assert mv(*FORMULAS, shared="1 + time:group").shared == (
        ("(Intercept)", ()), ("time:group", ()),
    )  # fmt: skip
    with pytest.raises(FormulaError, match="a sum of terms in quotes"):
        mv(*FORMULAS, shared=3)
    with pytest.raises(ValueError, match="use method='ml'"):
        dgmm.mixed_model(mv(*FORMULAS, shared="time"), residual(), method="reml")
