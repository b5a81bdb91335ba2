"""Pictures show what predict() says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import dgmm
from dgmm import Fit
from dgmm.plots import plot_effects, plot_profiles, plot_trace


@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    return dgmm.datasets.load("sleepstudy")


@pytest.fixture(scope="module")
def fit(sleep: pd.DataFrame) -> Fit:
    return dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", sleep, verbose=0)


def test_profiles_are_the_predictions(fit: Fit, sleep: pd.DataFrame) -> None:
    figure = plot_profiles(fit, sleep, ["308", "335"], against={"again": fit})
    axis = figure.axes[0]
    line = axis.lines[0]
    grid = sleep[sleep["Subject"] == "308"].iloc[[0, -1]].copy()
    expected = fit.predict(grid)["fit"].to_numpy()
    np.testing.assert_allclose(line.get_ydata()[[0, -1]], expected, rtol=1e-8)
    assert [one.get_text() for one in figure.legends[0].get_texts()] == ["dgmm", "again"]
    points = axis.lines[-1]
    assert sorted(points.get_ydata()) == sorted(sleep.loc[sleep["Subject"] == "308", "Reaction"])


def test_default_subjects_are_six_of_the_fit(fit: Fit, sleep: pd.DataFrame) -> None:
    assert sum(axis.get_visible() for axis in plot_profiles(fit, sleep).axes) == 6


def test_unknown_subject_is_named(fit: Fit, sleep: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="'999' is not in the fit"):
        plot_profiles(fit, sleep, ["999"])


def test_trace_needs_an_elbo_stage(fit: Fit) -> None:
    with pytest.raises(ValueError, match="no ELBO stage"):
        plot_trace(fit)


def test_effects_are_drawn_with_both_bands(fit: Fit) -> None:
    figure = plot_effects(fit, "Days", grid=11)
    table = fit.effects("Days", grid=11)
    axis = figure.axes[0]
    np.testing.assert_allclose(axis.lines[0].get_ydata(), table["fit"])
    tops = [path.get_paths()[0].vertices[:, 1].max() for path in axis.collections[:2]]
    np.testing.assert_allclose(tops, [table["upper"].max(), table["sim_upper"].max()])
    ticks = axis.collections[2].get_segments()
    assert len(ticks) == 10
    assert axis.get_xlabel() == "Days"


def test_effects_of_a_category_and_of_two_covariates() -> None:
    frame = dgmm.datasets.load("orthodont")
    fit = dgmm.mixed_model("distance ~ Sex * age + (1 | Subject)", frame, verbose=0)
    axis = plot_effects(fit, ("age", "Sex"), grid=5).axes[0]
    table = fit.effects(("age", "Sex"), grid=5)
    drawn = [line.get_ydata() for line in axis.lines]  # two edges of the band, then the curve
    for j, (_, own) in enumerate(table.groupby("Sex", sort=False)):
        for line, name in zip(drawn[3 * j :], ("sim_lower", "sim_upper", "fit"), strict=False):
            np.testing.assert_allclose(line, own[name])
    bars = plot_effects(fit, "Sex").axes[0]
    assert "held: age = 11" in bars.get_title(loc="left")
    assert [one.get_text() for one in bars.get_xticklabels()] == list(table["Sex"].unique())
