"""Pictures show what predict() says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from toys import visits_frame

import dgmm
from dgmm import Fit
from dgmm.plots import (
    fan,
    plot_calibration,
    plot_density,
    plot_dynamic,
    plot_effects,
    plot_fan,
    plot_pp_check,
    plot_profiles,
    plot_ranks,
    plot_residuals,
    plot_trace,
)


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


def test_means_are_drawn_as_what_they_are() -> None:
    frame = dgmm.datasets.load("epil").assign(exposure=0.5)
    fit = dgmm.mixed_model(
        "y ~ lage + trt + (1 | subject)", frame, family="poisson", offset="exposure", verbose=0
    )
    for type, words in (("marginal", "(population)"), ("mean_subject", "(random effects zero)")):
        axis = plot_effects(fit, "lage", scale="response", type=type, grid=5).axes[0]
        table = fit.effects("lage", scale="response", type=type, grid=5)
        np.testing.assert_allclose(axis.lines[0].get_ydata(), table["fit"])
        assert axis.get_ylabel() == f"mean of y {words}"
        assert "held: trt = placebo, offset = 0" in axis.get_title(loc="left")
    axis = plot_effects(fit, "lage", grid=5).axes[0]
    assert axis.get_ylabel() == "mean of y (log)"
    assert "exposure = 0.5" in axis.get_title(loc="left")


# -- forecasts -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def path() -> Fit:
    return dgmm.mixed_model("y ~ time + x + (1 | id) + (ou(time) | id)", visits_frame(), verbose=0)


def ahead(subjects: Sequence[object], n: int = 5) -> pd.DataFrame:
    """Times after the last visit of some subjects."""
    frames = [pd.DataFrame({"id": one, "time": 8.0 + np.arange(n), "x": 0.0}) for one in subjects]
    return pd.concat(frames, ignore_index=True)


def test_a_fan_holds_the_prediction_intervals_of_every_level(path: Fit) -> None:
    rows = ahead([3, 7])
    table = fan(path, rows, levels=(0.9, 0.5))
    assert list(table) == ["fit", "lower_50", "upper_50", "lower_90", "upper_90"]
    for level in (0.5, 0.9):
        own = path.predict(rows, interval="prediction", level=level)
        np.testing.assert_allclose(table["fit"], own["fit"])
        np.testing.assert_allclose(table[f"lower_{100 * level:g}"], own["lower"])
        np.testing.assert_allclose(table[f"upper_{100 * level:g}"], own["upper"])


def test_a_fan_is_the_conditional_normal_widened_by_the_error_of_theta(path: Fit) -> None:
    """Forecast and variance of a subject by dense normal algebra at the estimates."""
    sd, own, reach, sigma = path.var_corr()["sdcor"]
    data = visits_frame().query("id == 3")
    rows = ahead([3])
    time = np.concatenate([data["time"], rows["time"]])
    lag = np.abs(time[:, None] - time)
    V = sd**2 + own**2 * np.exp(-lag / reach) + sigma**2 * np.eye(len(time))
    X = np.column_stack([np.ones(len(time)), time, np.concatenate([data["x"], rows["x"]])])
    n, mean = len(data), X @ path.fixef().to_numpy()
    gain = np.linalg.solve(V[:n, :n], V[:n, n:]).T
    expected = mean[n:] + gain @ (data["y"].to_numpy() - mean[:n])
    spread = np.sqrt(np.diag(V[n:, n:] - gain @ V[:n, n:]))
    table = fan(path, rows, levels=(0.8,))
    np.testing.assert_allclose(table["fit"], expected, atol=1e-6)
    ratio = (table["upper_80"] - table["lower_80"]) / (2 * stats.norm.ppf(0.9) * spread)
    assert ratio.between(1.0, 1.12).all()
    # it opens with the gap and returns to what is known of the subject
    assert (np.diff(table["upper_80"] - table["lower_80"]) > 0).all()


def test_a_fan_is_drawn_for_every_subject_with_what_it_knows(path: Fit) -> None:
    rows, levels = ahead([3, 7]), (0.5, 0.95)
    figure = plot_fan(path, rows, levels=levels)
    table = fan(path, rows, levels=levels)
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in shown] == ["id 3", "id 7"]
    for j, axis in enumerate(shown):
        part = table.iloc[5 * j : 5 * j + 5]
        wide, narrow = (one.get_paths()[0].vertices[:, 1] for one in axis.collections)
        assert (wide.min(), wide.max()) == (part["lower_95"].min(), part["upper_95"].max())
        assert (narrow.min(), narrow.max()) == (part["lower_50"].min(), part["upper_50"].max())
        np.testing.assert_allclose(axis.lines[0].get_ydata(), part["fit"])
        data = visits_frame().query(f"id == {[3, 7][j]}")
        np.testing.assert_allclose(axis.lines[1].get_ydata(), data["y"])
    assert [one.get_text() for one in figure.legends[0].get_texts()] == ["95 %", "50 %"]


def test_a_fan_of_a_new_subject_has_the_past_that_it_is_given(path: Fit) -> None:
    past = visits_frame().query("id == 3").assign(id="new")
    rows = ahead(["new"])
    known = fan(path, ahead([3]), levels=(0.8,))
    np.testing.assert_allclose(fan(path, rows, history=past, levels=(0.8,)), known, atol=1e-6)
    axis = plot_fan(path, rows, history=past).axes[0]
    np.testing.assert_allclose(axis.lines[1].get_xdata(), past["time"])


def test_a_fan_needs_probabilities_and_a_time(path: Fit, sleep: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"not 95"):
        fan(path, ahead([3]), levels=(0.5, 95))
    plain = dgmm.mixed_model("Reaction ~ Days + (1 | Subject)", sleep, verbose=0)
    with pytest.raises(ValueError, match="time variable"):
        plot_fan(plain, sleep)


def test_chains_are_drawn_with_a_panel_for_every_scalar(fit: Fit, sleep: pd.DataFrame) -> None:
    sampled = dgmm.mixed_model(
        "Reaction ~ 1 + (1 | Subject)",
        sleep,
        method="gibbs",
        draws=400,
        warmup=100,
        verbose=0,
    )
    drawn = sampled.posterior_draws()
    trace = plot_trace(sampled)
    assert [axis.get_title() for axis in trace.axes] == list(drawn.columns)
    lines = trace.axes[0].get_lines()
    assert len(lines) == 4
    assert np.array_equal(lines[1].get_ydata(), drawn.loc[2, "(Intercept)"])
    ranks = plot_ranks(sampled, ["sigma"])
    heights = np.array([one.get_data().values for one in ranks.axes[0].patches])
    assert heights.sum(1).tolist() == [400.0] * 4
    assert heights.sum(0).tolist() == [80.0] * 20
    (axis,) = plot_density(sampled, ["sigma"]).axes
    x, y = axis.get_lines()[0].get_data()
    assert np.trapezoid(y, x) == pytest.approx(1.0, abs=0.02)
    with pytest.raises(ValueError, match="there is no parameter 'sigm'; did you mean 'sigma'"):
        plot_trace(sampled, ["sigm"])
    with pytest.raises(ValueError, match="method='gibbs'"):
        plot_ranks(fit)


# -- checks and dynamic prediction ---------------------------------------------------------------


def test_predictive_checks_draw_their_numbers(fit: Fit) -> None:
    for kind, label in (("density", "Reaction"), ("variogram", "distance in Days")):
        axis = plot_pp_check(fit, kind, nsim=20).axes[0]
        table = fit.pp_check(kind, nsim=20)
        assert np.allclose(axis.lines[0].get_ydata(), table["observed"])
        assert axis.get_xlabel() == label
        assert axis.get_legend() is None  # it stands above, where it covers no data


def test_frequencies_are_bars() -> None:
    counts = dgmm.datasets.load("epil")
    fit = dgmm.mixed_model("y ~ trt + (1 | subject)", counts, family="poisson", verbose=0)
    axis = plot_pp_check(fit, "rootogram", nsim=20).axes[0]
    table = fit.pp_check("rootogram", nsim=20)
    assert np.allclose([bar.get_height() for bar in axis.patches], table["observed"])


def test_residuals_have_four_panels_with_a_time(fit: Fit) -> None:
    figure = plot_residuals(fit, conditional=False)
    first, by_mean, by_time, last = figure.axes[:4]
    u = fit.residuals("quantile", conditional=False).to_numpy()
    assert np.allclose(first.lines[0].get_ydata(), np.sort(stats.norm.ppf(u)))
    assert by_time.get_xlabel() == "Days"
    assert np.allclose(by_mean.lines[0].get_ydata(), u)
    assert sum(bar.get_height() for bar in last.patches) == len(u)


def test_calibration_draws_its_numbers(fit: Fit) -> None:
    axis = plot_calibration(fit, bins=5).axes[0]
    table = fit.calibration(bins=5)
    assert np.allclose(axis.lines[-1].get_xydata(), table[["predicted", "observed"]])


def test_dynamic_prediction_has_a_panel_for_every_landmark(fit: Fit, sleep: pd.DataFrame) -> None:
    figure = plot_dynamic(fit, "308", at=[2, 5])
    assert len(figure.axes) == 2
    own = sleep[sleep["Subject"] == "308"]
    for axis, moment in zip(figure.axes, (2, 5), strict=True):
        line, seen, later, mark = axis.lines
        assert np.allclose(seen.get_ydata(), own["Reaction"][own["Days"] <= moment])
        assert np.allclose(later.get_ydata(), own["Reaction"][own["Days"] > moment])
        assert mark.get_xdata()[0] == moment
        past = own[own["Days"] <= moment]
        grid = pd.DataFrame({"Subject": "308", "Days": line.get_xdata()})
        assert np.allclose(line.get_ydata(), fit.predict(grid, history=past)["fit"])
        assert line.get_xdata()[-1] == 9
    new = own.assign(Subject="new")
    both = plot_dynamic(fit, pd.concat([own, new]), until=12)  # landmarks after the 3rd and 6th
    assert [axis.get_title() for axis in both.axes][:2] == [
        "Subject 308, seen up to Days 2", "Subject 308, seen up to Days 5"
    ]  # fmt: skip
    assert np.allclose(both.axes[0].lines[0].get_ydata(), both.axes[2].lines[0].get_ydata())


def test_what_has_no_dynamic_prediction(fit: Fit) -> None:
    with pytest.raises(ValueError, match="subject 'nobody' is not in the fit"):
        plot_dynamic(fit, "nobody")
    with pytest.raises(ValueError, match="has no visit up to then"):
        plot_dynamic(fit, "308", at=[-1])
