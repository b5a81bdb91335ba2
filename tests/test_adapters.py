"""A fit under marginaleffects: its predictions, slopes and comparisons are those of the fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import data

from dgmm import Fit, mixed_model

pytest.importorskip("marginaleffects")

from marginaleffects import (  # the package is optional
    avg_comparisons,
    avg_slopes,
    comparisons,
    datagrid,
    predictions,
)

from dgmm.adapters.marginaleffects import ModelDgmm

WAYS: list[dict[str, Any]] = [
    {"scale": "link"},
    {"scale": "response"},
    {"scale": "response", "type": "mean_subject"},
]


@pytest.fixture(scope="module")
def splines() -> Fit:
    return mixed_model(
        "y ~ trt * bs(lbase, df=4) + lage + (1 | subject)",
        data("epil"),
        family="poisson",
        verbose=0,
    )


@pytest.mark.parametrize("way", WAYS)
def test_average_slopes_and_comparisons(splines: Fit, way: dict[str, Any]) -> None:
    model = ModelDgmm(splines, **way)
    theirs, ours = avg_slopes(model, variables=["lbase", "lage"]), splines.slopes(**way)
    ours = ours.loc[["lbase", "lage"]]
    np.testing.assert_allclose(theirs["estimate"], ours["Estimate"], rtol=1e-4)
    np.testing.assert_allclose(theirs["std_error"], ours["Std. Error"], rtol=3e-3)
    one = avg_comparisons(model, variables="trt")
    line = splines.contrast({"trt": "progabide"}, {"trt": "placebo"}, **way).iloc[0]
    assert one["estimate"][0] == pytest.approx(line["Estimate"], rel=1e-9)
    assert one["std_error"][0] == pytest.approx(line["Std. Error"], rel=1e-3)
    assert one["conf_low"][0] == pytest.approx(line["lower"], rel=2e-3)


@pytest.mark.parametrize("way", WAYS)
def test_bases_keep_their_knots_on_a_grid(splines: Fit, way: dict[str, Any]) -> None:
    """Three values of lbase could not hold the knots of the fit."""
    model, at = ModelDgmm(splines, **way), [-1.0, 0.0, 1.5]
    grid = datagrid(model=model, lbase=at, trt=["placebo"], lage=[0.0])
    theirs = predictions(model, newdata=grid)
    ours = splines.effects("lbase", at={"lbase": at, "lage": 0.0}, **way)
    np.testing.assert_allclose(theirs["estimate"], ours["fit"], rtol=1e-10)
    np.testing.assert_allclose(theirs["std_error"], ours["se"], rtol=1e-3)


def test_single_comparisons_are_differences_of_predictions(splines: Fit) -> None:
    theirs = comparisons(ModelDgmm(splines), variables="trt")["estimate"].to_numpy()
    frame = splines.memory.frame
    both = [
        splines.predict(frame.assign(trt=arm), type="marginal")["fit"].to_numpy()
        for arm in ("progabide", "placebo")
    ]
    np.testing.assert_allclose(np.sort(theirs), np.sort(both[0] - both[1]), rtol=1e-9)


def test_coefficients_are_those_of_the_fit(splines: Fit) -> None:
    model = ModelDgmm(splines, scale="link")
    np.testing.assert_allclose(model.get_coef(), splines.fixef(), rtol=1e-9)
    np.testing.assert_allclose(model.get_vcov(), splines.vcov(), rtol=1e-8)
    assert list(model.get_coefnames()) == list(splines.fixef().index)
    assert model.get_vcov(False) is None
    with pytest.raises(ValueError, match="ask mixed_model\\(\\) for se='sandwich'"):
        model.get_vcov("HC3")
    with pytest.raises(TypeError, match="needs a fit from mixed_model"):
        ModelDgmm("y ~ x")  # type: ignore[arg-type]
