"""The predicted course of subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dgmm.design import label_key
from dgmm.fit import Fit
from dgmm.plots.axes import COLOURS, picture, sheet
from dgmm.plots.rows import Raw, between, find_subjects, raw_of, theta_word
from dgmm.plots.words import name_panels

__all__ = ["plot_profiles"]

ASKED = "plot_profiles()"
POINTS = 60
SHOWN = 6


@picture
def plot_profiles(
    fit: Fit,
    data: Any = None,
    subjects: Sequence[Any] | None = None,
    *,
    x: str | None = None,
    against: Mapping[str, Fit] | None = None,
    label: str = "dgmm",
    level: float = 0.95,
    ax: Any = None,
) -> np.ndarray:
    """Observed outcomes and fitted profiles E(y | the subject's data) over time.

    Args:
        fit: the fit whose profiles are drawn, with a band for the expected value.
        data: the rows of the subjects, by default those of the fit. Other covariates of a subject
            are those of its last visit; subjects that the fit has not seen are predicted from
            their outcomes there.
        subjects: ids to show; by default six, spread evenly from the lowest to the highest mean.
        x: the column on the horizontal axis; by default the time of the model, else the first
            number of the formula that varies within subjects.
        against: further fits to draw as lines, by name.
        label: the name of ``fit`` in the legend.
        level: of the band, which of a fit without standard errors takes the parameters as known.
        ax: as many axes as subjects, to draw into.

    Returns:
        An array of axes, one for every subject.

    Raises:
        ValueError: nothing varies within subjects, or an id is neither in the fit nor in data=.
    """
    raw = raw_of(fit, data, ASKED)
    name = raw.course(x, ASKED)
    chosen = _spread(raw, SHOWN) if subjects is None else find_subjects(raw, subjects, ASKED)
    known = {label_key(one) for one in fit.estimate.panel.ids.tolist()}
    grids = {key: _grid(fit, raw.frame.iloc[raw.of(key)], name) for key in chosen}
    options = {"interval": "confidence", "level": level, "theta": theta_word(fit)}
    bands = _predicted(fit, raw, grids, known, **options)
    others = {
        title: _predicted(other, raw, grids, known) for title, other in (against or {}).items()
    }
    drawn = sheet(ax, ASKED, len(chosen), width=3.4, height=2.7, sharex=True, sharey=True)
    for axis, key in zip(drawn.axes, chosen, strict=True):
        band, at = bands[key], grids[key][name].to_numpy(dtype=float)
        axis.fill_between(at, band["lower"], band["upper"], color=COLOURS[0], alpha=0.18, lw=0)
        axis.plot(at, band["fit"], color=COLOURS[0], lw=1.8, label=label)
        for j, (title, found) in enumerate(others.items(), 1):
            style = {"color": COLOURS[j % len(COLOURS)], "lw": 1.4, "ls": "--"}
            axis.plot(at, found[key]["fit"], label=title, **style)
        own = raw.of(key)
        when = raw.frame[name].iloc[own]
        axis.plot(when, raw.y[own], "o", color="black", ms=3.5, label="observed")
    return name_panels(drawn, fit, [f"{raw.group} {key}" for key in chosen], name)


def _predicted(
    fit: Fit, raw: Raw, grids: Mapping[str, pd.DataFrame], known: set[str], **options: Any
) -> dict[str, pd.DataFrame]:
    """Predictions by subject: those of the fit from its data, others from their rows in ``raw``."""
    found: dict[str, pd.DataFrame] = {}
    for seen in (True, False):
        keys = [key for key in grids if (key in known) == seen]
        if not keys:
            continue
        rows = np.concatenate([raw.of(key) for key in keys])
        past = {} if seen else {"history": raw.frame.iloc[rows]}
        target = pd.concat([grids[key] for key in keys], ignore_index=True)
        table = fit.predict(target, **past, **options)
        sizes = [len(grids[key]) for key in keys]
        of_key = np.repeat(np.arange(len(keys)), sizes)
        found |= {key: table[of_key == j] for j, key in enumerate(keys)}
    return found


def _spread(raw: Raw, count: int) -> list[str]:
    """Subjects with many visits, evenly spaced by their mean outcome."""
    seen = np.isfinite(raw.y)
    table = pd.Series(raw.y[seen]).groupby(raw.keys[seen], sort=False).agg(["size", "mean"])
    often = table[table["size"] >= table["size"].quantile(0.6)].sort_values("mean", kind="stable")
    places = np.linspace(0, len(often) - 1, min(count, len(often))).round().astype(int)
    return [str(key) for key in often.index[places]]


def _grid(fit: Fit, own: pd.DataFrame, name: str) -> pd.DataFrame:
    """The last row of a subject at many values of the horizontal axis."""
    values = own[name].to_numpy(dtype=float)
    grid = between(fit, name, values, np.nanmin(values), np.nanmax(values), POINTS)
    frame = pd.concat([own.iloc[[np.nanargmax(values)]]] * len(grid), ignore_index=True)
    frame[name] = grid
    return frame
