"""Dynamic prediction: the history, the forecast from it and what followed, by landmark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dgmm.design import Table, label_key
from dgmm.fit import Fit
from dgmm.plots.axes import COLOURS, labelled, panels, short
from dgmm.plots.forecasts import draw_fan, fan
from dgmm.prediction.moments import outcomes_seen
from dgmm.runtime.gate import gate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_dynamic"]

POINTS = 40


@gate
def plot_dynamic(
    fit: Fit,
    who: Any,
    *,
    at: Any = None,
    until: float | None = None,
    levels: Sequence[float] = (0.5, 0.8, 0.95),
    seed: int | None = None,
) -> Figure:
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

    Covariates of a forecast are those of the last visit before the landmark.

    Raises:
        ValueError: a model without time; an id that is not in the fit; a subject without a visit
            up to a landmark.
    """
    time, group = fit.memory.spec.time_name, fit.memory.groups[0]
    rows = _rows(fit, who, group)
    if time is None or time not in rows.columns or group not in rows.columns:
        raise ValueError(
            "plot_dynamic() needs a time variable left of the bar and the subject's column"
        )
    keys = np.array([label_key(one) for one in rows[group]])
    ids = list(dict.fromkeys(keys))
    moments = _moments(rows.loc[keys == ids[0], time].to_numpy(dtype=float), at)
    columns = len(moments) if len(moments) <= 3 else 3
    figure, axes = panels(len(ids) * len(moments), 3.4, sharex=True, sharey=True, columns=columns)
    places = [(one, moment) for one in ids for moment in moments]
    for axis, (one, moment) in zip(axes, places, strict=False):
        own = rows[keys == one].sort_values(time, kind="stable")
        _panel(axis, fit, own, time, moment, until, levels, seed)
        axis.set_title(f"{group} {one}, seen up to {time} {short(moment)}", fontsize=9)
    return labelled(figure, fit)


def _panel(
    axis: Any,
    fit: Fit,
    own: pd.DataFrame,
    time: str,
    moment: float,
    until: float | None,
    levels: Sequence[float],
    seed: int | None,
) -> None:
    when = own[time].to_numpy(dtype=float)
    past = own[when <= moment]
    if not len(past):
        raise ValueError(f"at={moment:g}: the subject has no visit up to then")
    last = float(when.max()) if until is None else float(until)
    grid = pd.concat([past.iloc[[-1]]] * POINTS, ignore_index=True)
    grid[time] = np.linspace(moment, max(last, moment), POINTS + 1)[1:]
    table = fan(fit, grid, history=past, levels=levels, seed=seed)
    draw_fan(axis, grid[time].to_numpy(dtype=float), table, levels)
    y = _outcomes(fit, own)
    seen = when <= moment
    axis.plot(when[seen], y[seen], "o", color="black", ms=3.5, label="seen")
    axis.plot(when[~seen], y[~seen], "o", mfc="white", mec="black", ms=4, label="what followed")
    axis.axvline(moment, color=COLOURS[4], lw=0.8, ls=":")


def _rows(fit: Fit, who: Any, group: str) -> pd.DataFrame:
    """The rows of an id of the fit, or those given."""
    if hasattr(who, "columns") or isinstance(who, dict):
        return Table(who).frame()
    if fit.memory.frame is None:
        raise ValueError(
            "plot_dynamic() of an id needs the frame of the fit, which a fit read from a file does "
            "not hold; give the rows of the subject"
        )
    frame = Table(fit.memory.frame).frame()
    own = [label_key(one) == label_key(who) for one in frame[group]]
    if not any(own):
        raise ValueError(f"subject {who!r} is not in the fit; give its rows as a frame")
    return frame[own]


def _moments(when: np.ndarray, at: Any) -> list[float]:
    if at is not None:
        return [float(one) for one in np.atleast_1d(np.asarray(at, dtype=float))]
    visits = np.unique(when[np.isfinite(when)])
    count = len(visits)
    places = sorted({max((share * count) // 3 - 1, 0) for share in (1, 2)})
    return [float(visits[j]) for j in places]


def _outcomes(fit: Fit, own: pd.DataFrame) -> np.ndarray:
    """Outcomes of rows as the family counts them, missing where there are none."""
    panel = outcomes_seen(fit.estimate, fit.memory.spec, own)
    found = np.full(len(own), np.nan)
    y = fit.estimate.model.family.response(panel.rows.data).numpy()[panel.observed.numpy()]
    when = panel.rows.time.numpy()[panel.observed.numpy()]
    place = {float(one): j for j, one in enumerate(own[str(fit.memory.spec.time_name)])}
    for moment, value in zip(when, y, strict=True):
        found[place[float(moment)]] = value
    return found
