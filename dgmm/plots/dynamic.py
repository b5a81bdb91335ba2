"""Dynamic prediction: the history, the forecast from it and what followed, by landmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from dgmm.design import label_key
from dgmm.fit import Fit
from dgmm.plots.axes import COLOURS, picture, sheet, short
from dgmm.plots.forecasts import draw_fan, fan
from dgmm.plots.rows import Raw, between, raw_of
from dgmm.plots.words import name_panels

__all__ = ["plot_dynamic"]

ASKED = "plot_dynamic()"
POINTS = 40


@picture
def plot_dynamic(
    fit: Fit,
    who: Any,
    *,
    at: Any = None,
    until: float | None = None,
    levels: Sequence[float] = (0.5, 0.8, 0.95),
    seed: int | None = None,
    x: str | None = None,
    ax: Any = None,
) -> np.ndarray:
    """Forecasts of a subject from what was seen of it up to each of several times.

    Filled points are the history, the fan holds the prediction intervals of new outcomes given it,
    open points are what happened afterwards. A panel for each landmark, a row for each subject.

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        who: an id of the fit, or a frame with the rows of one subject or several, seen or new.
        at: landmarks, times of the model; by default a third and two thirds of the visits of the
            first subject.
        until: end of the forecasts; by default the last time in the rows.
        levels: of the intervals.
        seed: of the draws where the intervals need any.
        x: the time; by default that of the model, else the first number of the formula that
            varies within subjects.
        ax: as many axes as landmarks times subjects, to draw into.

    Returns:
        An array of axes, by subject and landmark. Covariates of a forecast are those of the last
        visit before the landmark.

    Raises:
        ValueError: nothing varies within subjects; an id that is not in the fit; a subject without
            a visit up to a landmark; a landmark at the end of the forecasts.
    """
    raw = _rows(fit, who)
    time, ids = raw.course(x, ASKED), list(dict.fromkeys(raw.keys))
    moments = _moments(raw.frame[time].iloc[raw.of(ids[0])].to_numpy(dtype=float), at)
    last = float(np.nanmax(raw.frame[time].to_numpy(dtype=float))) if until is None else until
    late = [moment for moment in moments if moment >= last]
    if late:
        raise ValueError(
            f"at={late[0]:g}: no visit is later, `{time}` ends at {last:g}; until= takes forecasts "
            "further"
        )
    places = [(one, moment) for one in ids for moment in moments]
    forecasts = [
        _forecast(fit, _of_subject(raw, one, time), time, moment, until, levels, seed)
        for one, moment in places
    ]
    layout: dict[str, Any] = {"width": 3.4, "height": 2.8, "columns": min(len(moments), 3)}
    drawn = sheet(ax, ASKED, len(places), **layout, sharex=True, sharey=True)
    for axis, (one, moment), forecast in zip(drawn.axes, places, forecasts, strict=True):
        draw_fan(axis, forecast.index.to_numpy(), forecast, levels)
        own = _of_subject(raw, one, time)
        when, y = own.frame[time].to_numpy(dtype=float), own.y
        seen = when <= moment
        axis.plot(when[seen], y[seen], "o", color="black", ms=3.5, label="seen")
        style = {"mfc": "white", "mec": "black", "ms": 4, "label": "what followed"}
        axis.plot(when[~seen], y[~seen], "o", **style)
        axis.axvline(moment, color=COLOURS[4], lw=0.8, ls=":")
    titles = [f"{raw.group} {one}, seen up to {time} {short(moment)}" for one, moment in places]
    return name_panels(drawn, fit, titles, time)


def _forecast(
    fit: Fit,
    own: Raw,
    time: str,
    moment: float,
    until: float | None,
    levels: Sequence[float],
    seed: int | None,
) -> pd.DataFrame:
    """The fan of a subject from a landmark on, by time."""
    when = own.frame[time].to_numpy(dtype=float)
    past = own.frame[when <= moment]
    if not len(past):
        raise ValueError(f"at={moment:g}: the subject has no visit up to then")
    last = float(when.max()) if until is None else float(until)
    ahead = between(fit, time, when, moment, max(last, moment), POINTS + 1)[1:]
    grid = pd.concat([past.iloc[[-1]]] * len(ahead), ignore_index=True)
    grid[time] = ahead
    return fan(fit, grid, history=past, levels=levels, seed=seed).set_axis(pd.Index(ahead))


def _of_subject(raw: Raw, key: str, time: str) -> Raw:
    """The rows of a subject in the order of time."""
    rows = raw.of(key)
    rows = rows[np.argsort(raw.frame[time].to_numpy(dtype=float)[rows], kind="stable")]
    frame = raw.frame.iloc[rows].reset_index(drop=True)
    return replace(raw, frame=frame, y=raw.y[rows], keys=raw.keys[rows])


def _rows(fit: Fit, who: Any) -> Raw:
    """The rows of an id of the fit, or those given."""
    if hasattr(who, "columns") or isinstance(who, dict):
        return raw_of(fit, who, ASKED)
    if fit.memory.frame is None:
        raise ValueError(
            f"{ASKED} of an id needs the frame of the fit, which a fit read from a file does "
            "not hold; give the rows of the subject"
        )
    known = raw_of(fit, None, ASKED)
    own = known.of(label_key(who))
    if not len(own):
        raise ValueError(f"subject {who!r} is not in the fit; give its rows as a frame")
    frame = known.frame.iloc[own].reset_index(drop=True)
    return replace(known, frame=frame, y=known.y[own], keys=known.keys[own])


def _moments(when: np.ndarray, at: Any) -> list[float]:
    if at is not None:
        return [float(one) for one in np.atleast_1d(np.asarray(at, dtype=float))]
    visits = np.unique(when[np.isfinite(when)])
    count = len(visits)
    places = sorted({max((share * count) // 3 - 1, 0) for share in (1, 2)})
    return [float(visits[j]) for j in places]
