"""Pictures show what predict() says."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from scipy import stats
from toys import visits_frame

import dgmm
from dgmm import Fit
from dgmm.plots import (
    fan,
    plot_calibration,
    plot_categories,
    plot_coefficients,
    plot_covariance,
    plot_density,
    plot_dynamic,
    plot_effects,
    plot_fan,
    plot_pp_check,
    plot_profiles,
    plot_qq,
    plot_ranef,
    plot_ranks,
    plot_residuals,
    plot_spaghetti,
    plot_thresholds,
    plot_trace,
)
from dgmm.plots.rows import read_raw


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    pyplot.close("all")


def legend_of(axes: np.ndarray) -> list[str]:
    """Names in the legend of a figure of its own."""
    return [one.get_text() for one in axes[0].figure.legends[0].get_texts()]


@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    return dgmm.datasets.load("sleepstudy")


@pytest.fixture(scope="module")
def fit(sleep: pd.DataFrame) -> Fit:
    return dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", sleep, verbose=0)


def test_profiles_are_the_predictions(fit: Fit, sleep: pd.DataFrame) -> None:
    axes = plot_profiles(fit, sleep, ["308", "335"], against={"again": fit})
    axis = axes[0]
    line = axis.lines[0]
    grid = sleep[sleep["Subject"] == "308"].iloc[[0, -1]].copy()
    expected = fit.predict(grid)["fit"].to_numpy()
    np.testing.assert_allclose(line.get_ydata()[[0, -1]], expected, rtol=1e-8)
    assert legend_of(axes) == ["dgmm", "again", "observed"]
    points = axis.lines[-1]
    assert sorted(points.get_ydata()) == sorted(sleep.loc[sleep["Subject"] == "308", "Reaction"])


def test_default_subjects_are_six_of_the_fit(fit: Fit, sleep: pd.DataFrame) -> None:
    assert len(plot_profiles(fit)) == len(plot_profiles(fit, sleep)) == 6


def test_unknown_subject_is_named(fit: Fit, sleep: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="'999' is neither in the fit nor in data="):
        plot_profiles(fit, sleep, ["999"])


def test_trace_needs_an_elbo_stage(fit: Fit) -> None:
    with pytest.raises(ValueError, match="no ELBO stage"):
        plot_trace(fit)


def test_effects_are_drawn_with_both_bands(fit: Fit) -> None:
    axis = plot_effects(fit, "Days", grid=11)
    table = fit.effects("Days", grid=11)
    np.testing.assert_allclose(axis.lines[0].get_ydata(), table["fit"])
    tops = [path.get_paths()[0].vertices[:, 1].max() for path in axis.collections[:2]]
    np.testing.assert_allclose(tops, [table["upper"].max(), table["sim_upper"].max()])
    ticks = axis.collections[2].get_segments()
    assert len(ticks) == 10
    assert axis.get_xlabel() == "Days"


def test_effects_of_a_category_and_of_two_covariates() -> None:
    frame = dgmm.datasets.load("orthodont")
    fit = dgmm.mixed_model("distance ~ Sex * age + (1 | Subject)", frame, verbose=0)
    axis = plot_effects(fit, ("age", "Sex"), grid=5)
    table = fit.effects(("age", "Sex"), grid=5)
    drawn = [line.get_ydata() for line in axis.lines]  # two edges of the band, then the curve
    for j, (_, own) in enumerate(table.groupby("Sex", sort=False)):
        for line, name in zip(drawn[3 * j :], ("sim_lower", "sim_upper", "fit"), strict=False):
            np.testing.assert_allclose(line, own[name])
    bars = plot_effects(fit, "Sex")
    assert "held: age = 11" in bars.get_title(loc="left")
    assert [one.get_text() for one in bars.get_xticklabels()] == list(table["Sex"].unique())


def test_means_are_drawn_as_what_they_are() -> None:
    frame = dgmm.datasets.load("epil").assign(exposure=0.5)
    fit = dgmm.mixed_model(
        "y ~ lage + trt + (1 | subject)", frame, family="poisson", offset="exposure", verbose=0
    )
    for type, words in (("marginal", "(population)"), ("mean_subject", "(random effects zero)")):
        axis = plot_effects(fit, "lage", scale="response", type=type, grid=5)
        table = fit.effects("lage", scale="response", type=type, grid=5)
        np.testing.assert_allclose(axis.lines[0].get_ydata(), table["fit"])
        assert axis.get_ylabel() == f"mean of y {words}"
        assert "held: trt = placebo, offset = 0" in axis.get_title(loc="left")
    axis = plot_effects(fit, "lage", grid=5)
    assert axis.get_ylabel() == "log of mean of y"
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
    shown = plot_fan(path, rows, levels=levels)
    table = fan(path, rows, levels=levels)
    assert [axis.get_title() for axis in shown] == ["id 3", "id 7"]
    for j, axis in enumerate(shown):
        part = table.iloc[5 * j : 5 * j + 5]
        wide, narrow = (one.get_paths()[0].vertices[:, 1] for one in axis.collections)
        assert (wide.min(), wide.max()) == (part["lower_95"].min(), part["upper_95"].max())
        assert (narrow.min(), narrow.max()) == (part["lower_50"].min(), part["upper_50"].max())
        np.testing.assert_allclose(axis.lines[0].get_ydata(), part["fit"])
        data = visits_frame().query(f"id == {[3, 7][j]}")
        np.testing.assert_allclose(axis.lines[1].get_ydata(), data["y"])
    assert legend_of(shown) == ["95 %", "50 %", "expected", "observed"]


def test_a_fan_of_a_new_subject_has_the_past_that_it_is_given(path: Fit) -> None:
    past = visits_frame().query("id == 3").assign(id="new")
    rows = ahead(["new"])
    known = fan(path, ahead([3]), levels=(0.8,))
    np.testing.assert_allclose(fan(path, rows, history=past, levels=(0.8,)), known, atol=1e-6)
    axis = plot_fan(path, rows, history=past)[0]
    np.testing.assert_allclose(axis.lines[1].get_xdata(), past["time"])


def test_a_fan_needs_probabilities_and_a_time(path: Fit, sleep: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"not 95"):
        fan(path, ahead([3]), levels=(0.5, 95))
    plain = dgmm.mixed_model("Reaction ~ 1 + (1 | Subject)", sleep, verbose=0)
    with pytest.raises(ValueError, match=r"needs a number that varies within `Subject`"):
        plot_fan(plain, sleep)
    with pytest.raises(ValueError, match="needs the column `time` in the rows to predict"):
        plot_fan(path, pd.DataFrame({"id": [3], "x": [0.0]}))


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
    assert [axis.get_title() for axis in trace] == list(drawn.columns)
    lines = trace[0].get_lines()
    assert len(lines) == 4
    assert np.array_equal(lines[1].get_ydata(), drawn.loc[2, "(Intercept)"])
    ranks = plot_ranks(sampled, ["sigma"])
    heights = np.array([one.get_data().values for one in ranks[0].patches])
    assert heights.sum(1).tolist() == [400.0] * 4
    assert heights.sum(0).tolist() == [80.0] * 20
    (axis,) = plot_density(sampled, ["sigma"])
    x, y = axis.get_lines()[0].get_data()
    assert np.trapezoid(y, x) == pytest.approx(1.0, abs=0.02)
    with pytest.raises(ValueError, match="there is no parameter 'sigm'; did you mean 'sigma'"):
        plot_trace(sampled, ["sigm"])
    with pytest.raises(ValueError, match="method='gibbs'"):
        plot_ranks(fit)


# -- checks and dynamic prediction ---------------------------------------------------------------


def test_predictive_checks_draw_their_numbers(fit: Fit) -> None:
    for kind, label in (("density", "Reaction"), ("variogram", "distance in Days")):
        axis = plot_pp_check(fit, kind, nsim=20)
        table = fit.pp_check(kind, nsim=20)
        assert np.allclose(axis.lines[0].get_ydata(), table["observed"])
        assert axis.get_xlabel() == label
        assert axis.get_legend() is None  # it stands above, where it covers no data


def test_frequencies_are_bars() -> None:
    counts = dgmm.datasets.load("epil")
    fit = dgmm.mixed_model("y ~ trt + (1 | subject)", counts, family="poisson", verbose=0)
    axis = plot_pp_check(fit, "rootogram", nsim=20)
    table = fit.pp_check("rootogram", nsim=20)
    assert np.allclose([bar.get_height() for bar in axis.patches], table["observed"])


def test_residuals_have_four_panels_with_a_time(fit: Fit) -> None:
    first, by_mean, by_time, last = plot_residuals(fit, conditional=False)
    u = fit.residuals("quantile", conditional=False).to_numpy()
    assert np.allclose(first.lines[0].get_ydata(), np.sort(stats.norm.ppf(u)))
    assert by_time.get_xlabel() == "Days"
    assert np.allclose(by_mean.lines[0].get_ydata(), u)
    assert sum(bar.get_height() for bar in last.patches) == len(u)


def test_calibration_draws_its_numbers(fit: Fit) -> None:
    axis = plot_calibration(fit, bins=5)
    table = fit.calibration(bins=5)
    assert np.allclose(axis.lines[-1].get_xydata(), table[["predicted", "observed"]])


def test_dynamic_prediction_has_a_panel_for_every_landmark(fit: Fit, sleep: pd.DataFrame) -> None:
    axes = plot_dynamic(fit, "308", at=[2, 5])
    assert len(axes) == 2
    own = sleep[sleep["Subject"] == "308"]
    for axis, moment in zip(axes, (2, 5), strict=True):
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
    assert [axis.get_title() for axis in both][:2] == [
        "Subject 308, seen up to Days 2", "Subject 308, seen up to Days 5"
    ]  # fmt: skip
    assert np.allclose(both[0].lines[0].get_ydata(), both[2].lines[0].get_ydata())


def test_what_has_no_dynamic_prediction(fit: Fit) -> None:
    with pytest.raises(ValueError, match="subject 'nobody' is not in the fit"):
        plot_dynamic(fit, "nobody")
    with pytest.raises(ValueError, match="has no visit up to then"):
        plot_dynamic(fit, "308", at=[-1])
    with pytest.raises(ValueError, match="at=20: no visit is later, `Days` ends at 9"):
        plot_dynamic(fit, "308", at=[2, 20])
    assert len(plot_dynamic(fit, "308", at=[9], until=12)) == 1


def test_an_indicator_is_the_last_choice_of_a_time() -> None:
    epil = dgmm.datasets.load("epil")
    formula = "y ~ V4 + period + (1 | subject)"
    raw, _ = read_raw(formula, epil)
    assert raw.course(None, "picture()") == "period"
    assert read_raw("y ~ V4 + (1 | subject)", epil)[0].course(None, "picture()") == "V4"


# -- profiles, effects, data ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def level(sleep: pd.DataFrame) -> Fit:
    return dgmm.mixed_model("Reaction ~ Days + (1 | Subject)", sleep, verbose=0)


def test_profiles_without_a_time_left_of_the_bar(level: Fit, sleep: pd.DataFrame) -> None:
    (axis,) = plot_profiles(level, subjects=["308"])
    own = sleep[sleep["Subject"] == "308"]
    grid = pd.DataFrame({"Subject": "308", "Days": axis.lines[0].get_xdata()})
    assert (grid["Days"].min(), grid["Days"].max(), axis.get_xlabel()) == (0, 9, "Days")
    np.testing.assert_allclose(axis.lines[0].get_ydata(), level.predict(grid)["fit"])
    np.testing.assert_allclose(axis.lines[1].get_ydata(), own["Reaction"])
    band = level.predict(grid, interval="confidence", level=0.8)
    (axis,) = plot_profiles(level, subjects=["308"], level=0.8)
    edge = axis.collections[0].get_paths()[0].vertices[:, 1]
    assert (edge.min(), edge.max()) == (band["lower"].min(), band["upper"].max())


def test_profiles_over_another_column(sleep: pd.DataFrame) -> None:
    frame = sleep.assign(week=sleep["Days"] / 7, word="a")
    flat = dgmm.mixed_model("Reaction ~ 1 + (1 | Subject)", frame, verbose=0)
    (axis,) = plot_profiles(flat, subjects=["308"], x="week")
    np.testing.assert_allclose(axis.lines[0].get_ydata(), flat.fitted().iloc[0])
    np.testing.assert_allclose(np.sort(axis.lines[1].get_xdata()), np.arange(10) / 7)
    with pytest.raises(ValueError, match="needs a number that varies within `Subject`"):
        plot_profiles(flat)
    with pytest.raises(ValueError, match=r"x='month' of plot_profiles\(\) is no column"):
        plot_profiles(flat, x="month")
    with pytest.raises(ValueError, match=r"x='word' of plot_profiles\(\) is no column of numbers"):
        plot_profiles(flat, x="word")


def test_profiles_of_subjects_that_the_fit_has_not_seen(fit: Fit, sleep: pd.DataFrame) -> None:
    own = sleep[sleep["Subject"] == "308"]
    both = pd.concat([own, own.assign(Subject="new")])
    old, new = plot_profiles(fit, both, ["308", "new"], against={"again": fit})
    np.testing.assert_allclose(new.lines[0].get_ydata(), old.lines[0].get_ydata(), atol=1e-6)
    np.testing.assert_allclose(new.lines[1].get_ydata(), old.lines[0].get_ydata(), atol=1e-6)
    changed = own.assign(Subject="new", Reaction=own["Reaction"] + 100)
    (high,) = plot_profiles(fit, changed, ["new"])
    grid = pd.DataFrame({"Subject": "new", "Days": high.lines[0].get_xdata()})
    expected = fit.predict(grid, history=changed)["fit"]
    np.testing.assert_allclose(high.lines[0].get_ydata(), expected)
    assert high.lines[0].get_ydata().mean() > new.lines[0].get_ydata().mean() + 50


def test_profiles_of_shares_have_shares_as_points(cbpp: Fit) -> None:
    herds = dgmm.datasets.load("cbpp").assign(
        number=lambda d: d["period"].astype(int), share=lambda d: d["incidence"] / d["size"]
    )
    formula = "cbind(incidence, size - incidence) ~ number + (1 | herd)"
    fit = dgmm.mixed_model(formula, herds, family="binomial", verbose=0)
    (axis,) = plot_profiles(fit, subjects=[1])
    own = herds[herds["herd"].astype(str) == "1"]
    np.testing.assert_allclose(axis.lines[1].get_ydata(), own["share"])
    assert (axis.get_ylabel(), axis.get_title()) == ("share of incidence", "herd 1")


def test_a_surface_has_five_curves_that_hide_nothing(sleep: pd.DataFrame) -> None:
    first = sleep.groupby("Subject")["Reaction"].transform("first")
    frame = sleep.assign(first=first)
    fit = dgmm.mixed_model("Reaction ~ Days * first + (1 | Subject)", frame, verbose=0)
    axis = plot_effects(fit, ("Days", "first"), grid=4)
    table = fit.effects(("Days", "first"), grid=4)
    assert len(axis.collections) == 1  # the sample at the bottom: no band is filled
    assert len(axis.lines) == 15
    for j, (_, own) in enumerate(table.groupby("first")):
        drawn = axis.lines[3 * j : 3 * j + 3]
        for line, name in zip(drawn, ("lower", "upper", "fit"), strict=True):
            np.testing.assert_allclose(line.get_ydata(), own[name])
    light = [sum(line.get_color()[:3]) for line in axis.lines[2::3]]
    assert light == sorted(light)  # in the order of the second covariate
    assert "dotted: 95 % pointwise" in axis.get_title(loc="left")


def test_the_data_are_drawn_before_and_after_a_fit(fit: Fit, sleep: pd.DataFrame) -> None:
    drawn = [
        plot_spaghetti("Reaction ~ Days + (1 | Subject)", sleep, subjects=["309"]),
        plot_spaghetti(fit, subjects=["309"]),
        plot_spaghetti(fit, sleep, x="Days", subjects=["309"]),
    ]
    means = sleep.groupby("Days")["Reaction"].mean()
    for axis in drawn:
        *lines, mean, chosen = axis.lines
        assert len(lines) == 18
        for line, (_, own) in zip(lines, sleep.groupby("Subject"), strict=True):
            np.testing.assert_allclose(line.get_xydata(), own[["Days", "Reaction"]])
        np.testing.assert_allclose(mean.get_ydata(), means)
        own = sleep[sleep["Subject"] == "309"]
        np.testing.assert_allclose(chosen.get_ydata(), own["Reaction"])
        assert chosen.get_label() == "Subject 309"
        assert (axis.get_xlabel(), axis.get_ylabel()) == ("Days", "Reaction")


def test_groups_of_the_data_have_means_of_their_own() -> None:
    frame = dgmm.datasets.load("orthodont")
    axis = plot_spaghetti("log(distance) ~ age + (1 | Subject)", frame, by="Sex")
    for line in axis.lines:
        if not line.get_label().startswith("_"):
            sex = line.get_label().split()[2].rstrip(",")
            own = frame[frame["Sex"] == sex].assign(log=lambda d: np.log(d["distance"]))
            np.testing.assert_allclose(line.get_ydata(), own.groupby("age")["log"].mean())
    assert legend_of(np.array([axis])) == ["Sex = Male, mean", "Sex = Female, mean"]
    assert axis.get_ylabel() == "log(distance)"


def test_means_of_many_times_are_those_of_ten_groups() -> None:
    frame = visits_frame()
    axis = plot_spaghetti("y ~ time + (1 | id)", frame)
    group = pd.qcut(frame["time"], 10, labels=False)
    expected = frame.groupby(group)[["time", "y"]].mean()
    np.testing.assert_allclose(axis.lines[-1].get_xydata(), expected)


def test_what_has_no_spaghetti(fit: Fit, sleep: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"needs the data: plot_spaghetti\(formula, data\)"):
        plot_spaghetti("Reaction ~ Days + (1 | Subject)")
    with pytest.raises(ValueError, match="by='sex' of plot_spaghetti"):
        plot_spaghetti(fit, by="sex")
    with pytest.raises(ValueError, match="subject '1' is neither in the fit nor in data="):
        plot_spaghetti(fit, subjects=["1"])


# -- random effects ------------------------------------------------------------------------------


def test_a_caterpillar_is_ranef_in_order(fit: Fit) -> None:
    axes = plot_ranef(fit, level=0.9)
    table = fit.ranef(cond_var=True)
    assert [axis.get_title() for axis in axes] == ["(Intercept)", "Days"]
    for axis, name in zip(axes, ("(Intercept)", "Days"), strict=True):
        own = table.sort_values(name, kind="stable")
        np.testing.assert_allclose(axis.lines[-1].get_xdata(), own[name])
        assert [one.get_text() for one in axis.get_yticklabels()] == list(own.index)
        ends = np.array(axis.collections[0].get_segments())[:, :, 0]
        half = stats.norm.ppf(0.95) * own[f"sd({name})"]
        np.testing.assert_allclose(ends.T, [own[name] - half, own[name] + half])
    with pytest.raises(ValueError, match="no effect 'days' of Subject"):
        plot_ranef(fit, ["days"])
    with pytest.raises(ValueError, match="group='School' of plot_ranef"):
        plot_ranef(fit, group="School")


def test_standardised_effects_are_those_of_balanced_data(level: Fit, sleep: pd.DataFrame) -> None:
    """b-hat = D / (D + s2 / J) (mean of residuals), whose variance is D^2 / (D + s2 / J)."""
    (axis,) = plot_qq(level)
    D, s2 = level.var_corr()["vcov"]
    residual = sleep["Reaction"] - level.predict(type="mean_subject")["fit"]
    mean = residual.groupby(sleep["Subject"]).mean()
    z = np.sort(mean / np.sqrt(D + s2 / 10))
    np.testing.assert_allclose(axis.lines[-1].get_ydata(), z, rtol=1e-6)
    expected = stats.norm.ppf((np.arange(1, 19) - 0.375) / 18.25)
    np.testing.assert_allclose(axis.lines[-1].get_xdata(), expected)
    band = axis.collections[0].get_paths()[0].vertices
    low = stats.norm.ppf(stats.beta.ppf(0.025, 1, 18))
    assert band[:, 1].min() == pytest.approx(low)
    assert axis.get_title() == "(Intercept)"


def test_effects_without_a_variance_have_no_quantiles(singular: Fit) -> None:
    with pytest.raises(ValueError, match="predictions of `t` do not vary between subjects"):
        plot_qq(singular, ["t"])
    assert pyplot.get_fignums() == []
    (axis,) = plot_qq(singular, ["(Intercept)"])
    assert len(axis.lines[-1].get_ydata()) == 12


def test_covariance_over_time_is_that_of_the_effects(fit: Fit) -> None:
    times = np.array([0.0, 3.0, 9.0])
    sd, slope, both = fit.var_corr()["vcov"].iloc[[0, 1, 2]].to_numpy()
    assert fit.var_corr()["kind"].to_list() == ["sd", "sd", "cor", "sd"]
    D = np.array([[sd, both], [both, slope]])
    T = np.column_stack([np.ones(3), times])
    S = T @ D @ T.T
    for kind, expected in (
        ("covariance", S),
        ("correlation", S / np.sqrt(np.outer(np.diag(S), np.diag(S)))),
    ):
        left, right = plot_covariance(fit, times, kind=kind)
        np.testing.assert_allclose(left.lines[0].get_ydata(), np.sqrt(np.diag(S)), rtol=1e-6)
        mesh = right.collections[0].get_array()
        np.testing.assert_allclose(np.asarray(mesh).reshape(3, 3), expected, rtol=1e-6)
    table = fit.random_profile(list(times)).table
    edge = left.collections[0].get_paths()[0].vertices[:, 1]
    assert edge.max() == pytest.approx(table["upper"].max())
    with pytest.raises(ValueError, match="not 'variance'"):
        plot_covariance(fit, kind="variance")


# -- models beside each other, the search, categories --------------------------------------------


def test_coefficients_are_those_of_tidy(fit: Fit, level: Fit) -> None:
    axis = plot_coefficients(level, fit, names=["level", "slopes"], terms=["Days", "(Intercept)"])
    points = {line.get_label(): line for line in axis.lines}
    ends = [np.array(one.get_segments())[:, :, 0] for one in axis.collections]
    for one, name, drawn in ((level, "level", ends[0]), (fit, "slopes", ends[1])):
        table = one.tidy("fixed", conf_int=True).set_index("term").loc[["Days", "(Intercept)"]]
        np.testing.assert_allclose(points[name].get_xdata(), table["estimate"])
        np.testing.assert_allclose(drawn, table[["conf.low", "conf.high"]])
    assert [one.get_text() for one in axis.get_yticklabels()] == ["(Intercept)", "Days"]
    assert legend_of(np.array([axis])) == ["level", "slopes"]


def test_ratios_stand_on_a_logarithmic_axis(epil: Fit) -> None:
    axis = plot_coefficients(epil, exponentiate=True)
    table = epil.tidy("fixed", exponentiate=True).set_index("term").drop("(Intercept)")
    np.testing.assert_allclose(axis.lines[-1].get_xdata(), table["estimate"])
    assert axis.get_xscale() == "log"
    assert axis.get_xlabel() == "ratio with 95 % interval"


def test_what_has_no_coefficients_to_draw(level: Fit, sleep: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="needs at least one fit"):
        plot_coefficients()
    with pytest.raises(ValueError, match="names has 1 names for 2 fits"):
        plot_coefficients(level, level, names=["one"])
    with pytest.raises(ValueError, match="there is no term 'days'; known: "):
        plot_coefficients(level, terms=["days"])
    flat = dgmm.mixed_model("Reaction ~ 1 + (1 | Subject)", sleep, verbose=0)
    with pytest.raises(ValueError, match="no term but the intercept"):
        plot_coefficients(flat)


@pytest.fixture(scope="module")
def wine(fit_of: Callable[..., Fit]) -> Fit:
    return fit_of("wine")


def test_thresholds_are_the_parameters_of_the_family(wine: Fit) -> None:
    axis = plot_thresholds(wine, level=0.8)
    table = wine.family_parameters(0.8)
    points = [line for line in axis.lines if line.get_marker() == "o"]
    np.testing.assert_allclose([one.get_xdata()[0] for one in points], table["estimate"])
    bars = [line for line in axis.lines if len(set(line.get_ydata())) == 1 and line not in points]
    np.testing.assert_allclose([one.get_xdata() for one in bars], table[["lower", "upper"]])
    texts = [one.get_text() for one in axis.texts]
    assert texts == [*table.index, "1", "2", "3", "4", "5"]
    assert sum(bar.get_height() for bar in axis.patches) == 72


def test_categories_are_stacked_to_one(wine: Fit, epil: Fit) -> None:
    axis = plot_categories(wine, "temp", type="mean_subject", at={"contact": "yes"})
    heights = np.array([bar.get_height() for bar in axis.patches]).reshape(5, 2)
    c = wine.family_parameters()["estimate"].to_numpy()
    beta = wine.fixef()
    eta = np.array([0, beta["tempwarm"]]) + beta["contactyes"]
    below = np.vstack([np.zeros(2), 1 / (1 + np.exp(eta - c[:, None])), np.ones(2)])
    np.testing.assert_allclose(heights, np.diff(below, axis=0), atol=1e-8)
    assert legend_of(np.array([axis])) == ["1", "2", "3", "4", "5"]
    assert axis.get_title(loc="left") == "held: contact = yes"
    with pytest.raises(ValueError, match="type is 'marginal' or 'mean_subject'"):
        plot_categories(wine, "temp", type="subject")
    with pytest.raises(ValueError, match="is of ordered categories"):
        plot_categories(epil, "lage")


# -- where pictures are drawn ----------------------------------------------------------------------


def test_a_picture_needs_as_many_axes_as_panels(fit: Fit) -> None:
    figure = pyplot.figure()
    one = figure.subplots()
    with pytest.raises(ValueError, match=r"draws 4 panels: ax= is an array of 4 axes, and 1 is"):
        plot_residuals(fit, ax=one)
    with pytest.raises(ValueError, match=r"draws 1 panel: ax= is one axes, and 2 are given"):
        plot_calibration(fit, ax=[one, one])
    with pytest.raises(TypeError, match=r"ax= of plot_effects\(\) is axes of matplotlib, not Fig"):
        plot_effects(fit, "Days", ax=figure)
    assert pyplot.get_fignums() == [figure.number]


def test_a_picture_is_of_one_outcome(sleep: pd.DataFrame) -> None:
    frame = sleep.assign(other=sleep["Reaction"] ** 0.5)
    both = dgmm.mixed_model(
        dgmm.mv("Reaction ~ Days + (1 |p| Subject)", "other ~ Days + (1 |p| Subject)"),
        frame,
        se=None,
        verbose=0,
    )
    message = r"\(\) is of one outcome: give fit\['Reaction'\]; this fit has Reaction, other"
    for draw in (plot_profiles, plot_ranef, plot_spaghetti, plot_coefficients):
        with pytest.raises(TypeError, match=message):
            draw(both)
    with pytest.raises(TypeError, match=r"plot_trace\(\) needs a fit from mixed_model\(\), not Da"):
        plot_trace(sleep)  # type: ignore[arg-type]


def test_matplotlib_is_asked_for_by_name(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'dgmm\[plots\]'"):
        plot_effects(fit, "Days")


def test_a_fit_from_a_file_is_drawn_from_what_it_keeps(fit: Fit, tmp_path: Path) -> None:
    fit.save(tmp_path / "fit.dgmm")
    again = dgmm.load(tmp_path / "fit.dgmm")
    assert isinstance(again, Fit)
    for draw in (plot_profiles, plot_ranef, plot_spaghetti):
        old, new = (np.ravel(draw(one))[0] for one in (fit, again))
        for line, other in zip(old.lines, new.lines, strict=True):
            np.testing.assert_allclose(line.get_xydata(), other.get_xydata())
