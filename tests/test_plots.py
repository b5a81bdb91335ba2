"""Pictures show what predict() says."""

from __future__ import annotations

import numpy as np
import pytest

import dgmm
from dgmm.plots import plot_profiles, plot_trace


@pytest.fixture(scope="module")
def sleep():
    return dgmm.datasets.load("sleepstudy")


@pytest.fixture(scope="module")
def fit(sleep):
    return dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", sleep, verbose=0)


def test_profiles_are_the_predictions(fit, sleep):
    figure = plot_profiles(fit, sleep, ["308", "335"], against={"again": fit})
    axis = figure.axes[0]
    line = axis.lines[0]
    grid = sleep[sleep["Subject"] == "308"].iloc[[0, -1]].copy()
    expected = fit.predict(grid)["fit"].to_numpy()
    np.testing.assert_allclose(line.get_ydata()[[0, -1]], expected, rtol=1e-8)
    assert [one.get_text() for one in figure.legends[0].get_texts()] == ["dgmm", "again"]
    points = axis.lines[-1]
    assert sorted(points.get_ydata()) == sorted(sleep.loc[sleep["Subject"] == "308", "Reaction"])


def test_default_subjects_are_six_of_the_fit(fit, sleep):
    assert sum(axis.get_visible() for axis in plot_profiles(fit, sleep).axes) == 6


def test_unknown_subject_is_named(fit, sleep):
    with pytest.raises(ValueError, match="'999' is not in the fit"):
        plot_profiles(fit, sleep, ["999"])


def test_trace_needs_an_elbo_stage(fit):
    with pytest.raises(ValueError, match="no ELBO stage"):
        plot_trace(fit)
