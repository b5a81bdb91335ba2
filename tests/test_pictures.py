"""Every picture of every kind of fit: drawn where it is asked for, or refused in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import benchmark
from matplotlib import pyplot
from matplotlib.axes import Axes
from scipy import stats
from toys import crossed_frame, frame, visits_frame

import dgmm
from dgmm import Fit, plots

TINY = {"epochs": 2, "holdout": 0.0, "draws": 32, "hessian_draws": 32, "polish": False}
SUBJECT = 3
DOCS = Path(__file__).parent.parent / "docs"
DATA = frame(10, 5).assign(
    visit=np.tile(np.arange(5), 10),
    grade=lambda d: pd.qcut(d["y"], 3, labels=["poor", "fair", "good"]),
)


def fitted(formula: Any, data: pd.DataFrame = DATA, **options: Any) -> Any:
    return dgmm.mixed_model(formula, data, verbose=0, **options)


def network(form: str, **options: Any) -> Fit:
    term = f"dnn(ns(t, 2), hidden=(3,), ridge=5, latent=2, form='{form}')"
    options = {"method": "vae", "starts": 1, "control": TINY, **options}
    found: Fit = fitted(f"y ~ t + x + ({term} | id)", **options)
    return found


KINDS: dict[str, Callable[[], Fit]] = {
    "intercepts": lambda: fitted("y ~ t + x + (1 | id)"),
    "slopes": lambda: fitted("y ~ t + x + (t | id)"),
    "counts": lambda: fitted("count ~ t + x + (1 | id)", family="poisson"),
    "shares": lambda: fitted("cbind(hits, size - hits) ~ t + x + (1 | id)", family="binomial"),
    "ordinal": lambda: fitted("grade ~ t + x + (1 | id)", family="cumulative"),
    "network": lambda: network("coefficients"),
    "warped": lambda: network("warped", data=DATA[DATA["id"] < 5], se=None),
    "one of two": lambda: fitted(dgmm.mv("y ~ t + x + (1 |p| id)", "hits ~ t + (1 |p| id)"))["y"],
    "path": lambda: fitted("y ~ time + x + (1 | id) + (ou(time) | id)", visits_frame()),
    "states": lambda: fitted("y ~ x + (ssm(visit, state=1) | id)"),
    "recursion": lambda: fitted(
        "y ~ x + (vrnn(visit, latent=1, hidden=3) | id)", control={"epochs": 3, "holdout": 0.0}
    ),
    "sampled": lambda: fitted("y ~ t + x + (t | id)", method="gibbs", draws=100, warmup=50),
    "crossed": lambda: fitted("y ~ t + x + (1 | a) + (1 | b)", crossed_frame()),
}

Drawn = Callable[[Fit, Any], Any]

PICTURES: dict[str, Drawn] = {
    "plot_spaghetti": lambda fit, ax: plots.plot_spaghetti(fit, subjects=[SUBJECT], ax=ax),
    "plot_profiles": lambda fit, ax: plots.plot_profiles(fit, subjects=[SUBJECT], ax=ax),
    "plot_effects": lambda fit, ax: plots.plot_effects(fit, "x", grid=5, ax=ax),
    "plot_dynamic": lambda fit, ax: plots.plot_dynamic(
        fit, SUBJECT, at=[landmark(fit)], levels=[0.8], seed=1, ax=ax
    ),
    "plot_fan": lambda fit, ax: plots.plot_fan(fit, later(fit), levels=[0.8], seed=1, ax=ax),
    "plot_trace": lambda fit, ax: plots.plot_trace(fit, ax=ax),
    "plot_ranks": lambda fit, ax: plots.plot_ranks(fit, ["sigma"], ax=ax),
    "plot_density": lambda fit, ax: plots.plot_density(fit, ["sigma"], ax=ax),
    "plot_ranef": lambda fit, ax: plots.plot_ranef(fit, ax=ax),
    "plot_qq": lambda fit, ax: plots.plot_qq(fit, ax=ax),
    "plot_covariance": lambda fit, ax: plots.plot_covariance(fit, times_of(fit), ax=ax),
    "plot_residuals": lambda fit, ax: plots.plot_residuals(fit, seed=1, ax=ax),
    "plot_pp_check": lambda fit, ax: plots.plot_pp_check(fit, nsim=5, ax=ax),
    "plot_calibration": lambda fit, ax: plots.plot_calibration(fit, bins=3, seed=1, ax=ax),
    "plot_coefficients": lambda fit, ax: plots.plot_coefficients(fit, fit, ax=ax),
    "plot_thresholds": lambda fit, ax: plots.plot_thresholds(fit, ax=ax),
    "plot_categories": lambda fit, ax: plots.plot_categories(fit, "x", grid=5, ax=ax),
}

GIBBS = "is for fits by method='gibbs'"
ORDERED = "is of ordered categories, family='cumulative'; this fit is of family="
LEVEL = "the random part does not depend on time"

REFUSED: dict[str, dict[str, str]] = {
    "plot_ranks": dict.fromkeys(KINDS.keys() - {"sampled"}, GIBBS),
    "plot_density": dict.fromkeys(KINDS.keys() - {"sampled"}, GIBBS),
    "plot_thresholds": dict.fromkeys(KINDS.keys() - {"ordinal"}, ORDERED),
    "plot_categories": dict.fromkeys(KINDS.keys() - {"ordinal"}, ORDERED),
    "plot_trace": dict.fromkeys(
        KINDS.keys() - {"network", "warped", "recursion", "sampled"}, "has no ELBO stage"
    ),
    "plot_covariance": {
        **dict.fromkeys(
            ("intercepts", "counts", "shares", "ordinal", "one of two", "crossed"), LEVEL
        ),
        "recursion": "a recursion makes it of the rows before",
    },
    "plot_effects": dict.fromkeys(("warped", "recursion"), "no standard errors (se=None)"),
    "plot_dynamic": {"crossed": "history= is for models with one grouping factor"},
    "plot_ranef": dict.fromkeys(("states", "recursion"), "a path has a state at every visit"),
    "plot_qq": dict.fromkeys(("states", "recursion"), "a path has a state at every visit"),
}


def landmark(fit: Fit) -> float:
    """A time of the third visit of the subject."""
    time = fit.memory.spec.time_name or "t"
    known = plots.rows.raw_of(fit, None, "")
    return float(known.frame[time].iloc[known.of(str(SUBJECT))].sort_values().iloc[2])


def times_of(fit: Fit) -> list[float] | None:
    """Two times where many take long."""
    return [0.0, 0.5] if fit.sampled else None


def later(fit: Fit) -> pd.DataFrame:
    """Rows of a subject after the last one that the fit knows."""
    time = fit.memory.spec.time_name or "t"
    last = plots.rows.raw_of(fit, None, "").frame
    own = last[last[fit.memory.groups[0]] == SUBJECT].iloc[[-1, -1]].copy()
    own[time] = own[time] + np.array([1, 2])
    return own


made: dict[str, Fit] = {}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    pyplot.close("all")


def fit_of_kind(kind: str) -> Fit:
    if kind not in made:
        made[kind] = KINDS[kind]()
    return made[kind]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", PICTURES)
def test_legends_cover_no_data_and_labels_are_apart(name: str) -> None:
    kind = next(
        one
        for one in ("slopes", "ordinal", "network", "sampled")
        if one not in REFUSED.get(name, {})
    )
    axes = np.ravel(PICTURES[name](fit_of_kind(kind), None))
    figure = axes[0].figure
    figure.canvas.draw()
    for legend in figure.legends:
        for axis in axes:
            assert not legend.get_window_extent().overlaps(axis.get_window_extent())
    for axis in axes:
        for side, place in ((axis.xaxis, "x"), (axis.yaxis, "y")):
            texts = [one for one in side.get_ticklabels() if one.get_text() and one.get_visible()]
            ends = [one.get_window_extent() for one in texts if not one.get_rotation()]
            ends = sorted((getattr(one, f"{place}0"), getattr(one, f"{place}1")) for one in ends)
            assert all(before[1] <= after[0] for before, after in pairwise(ends))
    inside, drawn = figure.bbox_inches.padded(0.02), figure.get_tightbbox()
    assert inside.contains(drawn.x0, drawn.y0)  # no text is cut
    assert inside.contains(drawn.x1, drawn.y1)


def test_a_caterpillar_of_a_network_is_of_its_curves() -> None:
    fit = fit_of_kind("network")
    (axis,) = plots.plot_ranef(fit, at=[0.3], level=0.9)
    rows = DATA.sort_values("t").groupby("id").tail(1).assign(t=0.3)
    own = fit.predict(rows, scale="link", interval="confidence", theta="held")
    away = own["fit"] - fit.predict(rows, scale="link", type="mean_subject")["fit"]
    order = np.argsort(away.to_numpy())
    np.testing.assert_allclose(axis.lines[-1].get_xdata(), away.iloc[order], atol=1e-8)
    ends = np.array(axis.collections[0].get_segments())[:, :, 0]
    half = stats.norm.ppf(0.95) * own["se"].iloc[order]
    np.testing.assert_allclose(ends[:, 1] - ends[:, 0], 2 * half, rtol=1e-8)
    assert axis.get_title() == "t = 0.3"


def test_the_trace_has_the_scale_of_the_summary() -> None:
    fit = fit_of_kind("network")
    axis = plots.plot_trace(fit)
    by_epoch, at_estimates, height = axis.lines
    assert fit.estimate.trace is not None
    np.testing.assert_allclose(by_epoch.get_ydata(), 10 * np.array(fit.estimate.trace.elbo))
    assert f"ELBO {at_estimates.get_ydata()[0]:.2f} (s.e." in str(fit.summary(verbose=True))
    assert height.get_ydata()[0] == float(fit.loglik())
    assert axis.get_ylabel() == "ELBO of all subjects"


def test_categories_are_named_where_their_numbers_are() -> None:
    fit = fit_of_kind("ordinal")
    named = dict(zip((1, 2, 3), ("poor", "fair", "good"), strict=True))
    (profile,) = plots.plot_profiles(fit, subjects=[SUBJECT])
    for axis in (profile, plots.plot_spaghetti(fit), plots.plot_calibration(fit, bins=3)):
        names = [one.get_text() for one in axis.get_yticklabels()]
        assert names == [named[place] for place in axis.get_yticks()]
    assert profile.get_ylabel() == "grade"


def test_every_function_has_a_picture_in_the_page_that_is_small() -> None:
    drawn = {name: [] for name in PICTURES.keys() | {"plot_tuning"}}
    for one in benchmark("pictures").pictures():
        if one.file is None:
            continue
        name = one.code.rstrip().splitlines()[-1].split("plots.")[1].split("(")[0]
        size = (DOCS / one.file).stat().st_size
        assert 5_000 < size < 90_000, one.file
        drawn[name].append(one.file)
    assert all(drawn.values())
    files = {path.relative_to(DOCS).as_posix() for path in (DOCS / "plots").iterdir()}
    assert files == {file for one in drawn.values() for file in one}


def test_every_function_is_here() -> None:
    known = {name for name in plots.__all__ if name.startswith("plot_")}
    assert known == PICTURES.keys() | {"plot_tuning"}


def panels(name: str, kind: str) -> int:
    """How many panels a picture has."""
    wide, deep = kind in ("slopes", "sampled", "one of two"), kind in ("network", "warped")
    return {
        "plot_residuals": 4 if fit_of_kind(kind).memory.spec.time_name else 3,
        "plot_covariance": 2,
        "plot_trace": 7 if kind == "sampled" else 1,
        "plot_ranef": 3 if deep else 1 + wide,
        "plot_qq": 1 + (wide or deep),
    }.get(name, 1)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_drawn_into_the_axes_that_are_given_or_refused(name: str, kind: str) -> None:
    fit, draw = fit_of_kind(kind), PICTURES[name]
    if kind in REFUSED.get(name, {}):
        with pytest.raises(ValueError, match=re.escape(REFUSED[name][kind])):
            draw(fit, None)
        assert pyplot.get_fignums() == []
        return
    given = pyplot.figure().subplots(1, panels(name, kind), squeeze=False).ravel()
    before, beside = pyplot.get_fignums(), set(given[0].figure.axes)
    returned = draw(fit, given if len(given) > 1 else given[0])
    assert pyplot.get_fignums() == before
    assert all(a is b for a, b in zip(np.ravel(returned), given, strict=True))
    assert isinstance(returned, Axes) == (np.ndim(returned) == 0)
    bars = set(given[0].figure.axes) - beside
    assert len(bars) == (name == "plot_covariance")
    for axis in given:
        assert axis.has_data()
        assert axis.get_xlabel()
        legend = axis.get_legend()
        if legend is not None:
            assert legend.get_bbox_to_anchor().x0 >= axis.get_window_extent().x1
