"""Gaussian outcomes of factors and loadings: the closed form beside the one that follows nodes."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from toys import check_information, random_theta

import dgmm
from dgmm import mv
from dgmm.design import build_design
from dgmm.families import find
from dgmm.formula import parse_formula
from dgmm.latent import structures, words
from dgmm.likelihood import Maximum, choose
from dgmm.likelihood.joint_loadings import JointLoadings
from dgmm.likelihood.numerical import LinearGaussian
from dgmm.model import Model, Part, build_model, join, join_panels
from dgmm.panel import Panel


@cache
def frame(n: int = 25, visits: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    i, b = np.repeat(np.arange(n), visits), rng.normal(size=(n, 2))
    data = pd.DataFrame({"id": i, "t": np.tile(np.linspace(0, 3, visits), n)})
    t = data.t - 1.5
    for k, (level, slope) in enumerate([(1.0, 0.8), (-0.7, -0.56), (2.0, -0.3)]):
        curve = level * b[i, 0] + slope * t * b[i, 1]
        data[f"y{k}"] = 10**k * (k + 0.3 * t + curve + 0.4 * rng.normal(size=len(i)))
    data.loc[::5, "y1"] = np.nan
    data.loc[data.id == 3, "y2"] = np.nan
    return data


def read(text: str) -> tuple[Model, Panel]:
    formula = parse_formula(text, latent_words=words(), structures=structures())
    design = build_design(formula, frame())
    unit = float(frame()[text.partition(" ~")[0]].std())
    return build_model(design, find("gaussian"), unit), Panel.from_design(design)


@cache
def made(kind: str) -> tuple[Model, Panel]:
    """Loadings, loadings with a coefficient in common, or two factors of six columns."""
    if kind != "factors":
        shared = {"shared": "t"} if kind == "common" else {}
        several = mv("y0 ~ t + (t |p| id)", "y1 ~ t + load(p)", "y2 ~ t + (1 | id)", **shared)
        done = dgmm.mixed_model(several, frame(), se=None).estimate
        return done.model, done.panel
    names, parts = ["y0", "y1", "y2"], (tuple(Part(o, 0, "p") for o in range(3)),)
    deep = [read(f"{name} ~ t + (dnn(t, latent=2) |p| id)")[0] for name in names]
    below, panels = zip(*(read(f"{name} ~ t + (t |p| id)") for name in names), strict=True)
    return join(names, below, parts, join(names, deep, parts)), join_panels(panels, parts)


@cache
def maximum(kind: str) -> Maximum:
    model, panel = made(kind)
    return choose(model, panel, "exact").maximise(lambda: random_theta(model, 1, 0.3))


@pytest.mark.parametrize("kind", ["load", "common", "factors"])
def test_value_and_derivatives_are_those_of_the_dense_density(kind: str) -> None:
    model, panel = made(kind)
    ours, dense = choose(model, panel, "exact"), LinearGaussian(model, panel)
    assert isinstance(ours, JointLoadings)
    pack, top = model.packing.pack, maximum(kind).theta
    theta = {name: top[name] + 0.1 * own for name, own in random_theta(model, 4).items()}
    value, slope = ours.value_and_gradient(theta)
    assert value == pytest.approx(dense.value(theta), rel=1e-11)
    assert value == pytest.approx(ours.value(theta), rel=1e-14)
    assert float(ours.each(theta).value.sum()) == pytest.approx(value, rel=1e-11)
    expected = pack(dense.value_and_gradient(theta)[1])
    torch.testing.assert_close(pack(slope), expected, atol=1e-7, rtol=1e-8)
    check_information(ours, theta)
    some = {"extra", "beta"}
    assert set(ours.value_and_gradient(theta, some)[1]) == some


@pytest.mark.parametrize("kind", ["load", "common", "factors"])
def test_the_maximum_is_one_of_the_dense_density(kind: str) -> None:
    model, panel = made(kind)
    ours, found = choose(model, panel, "exact"), maximum(kind)
    assert found.converged
    assert found.decrement < 1e-4
    pack = model.packing.pack
    slope = pack(LinearGaussian(model, panel).value_and_gradient(found.theta)[1])
    information = -ours.information(found.theta, model.packing).matrix
    assert float(np.linalg.eigvalsh(information)[0]) > 0
    assert float(slope @ np.linalg.solve(information, slope)) < 1e-8


def test_outcomes_without_coefficients_have_a_likelihood_too() -> None:
    fit = dgmm.mixed_model(mv("y0 ~ 0 + (1 |p| id)", "y1 ~ 0 + load(p)"), frame(), se=None)
    done = fit.estimate
    assert isinstance(done.likelihood, JointLoadings)
    assert done.converged
    dense = LinearGaussian(done.model, done.panel)
    assert done.log_likelihood == pytest.approx(dense.value(done.theta), abs=1e-8)
