"""Prediction intervals at several levels, as numbers and as a fan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from dgmm.design import Table, label_key
from dgmm.fit import Fit
from dgmm.plots.axes import COLOURS, mixed, picture, sheet
from dgmm.plots.rows import raw_of, theta_word
from dgmm.plots.words import name_panels

__all__ = ["draw_fan", "fan", "plot_fan"]


@picture
def fan(
    fit: Fit,
    data: Any,
    *,
    history: Any = None,
    levels: Sequence[float] = (0.5, 0.8, 0.95),
    seed: int | None = None,
) -> pd.DataFrame:
    """Prediction intervals of new outcomes at several levels: the numbers of a fan plot.

    Args:
        fit: the fit that predicts.
        data: rows to predict, of one subject or several, such as times after the last visit.
        history: past rows of these subjects; by default those of the fit.
        levels: of the intervals, each between 0 and 1.
        seed: of the draws where the intervals need any.

    Returns:
        A frame in the order of ``data``: ``fit``, then ``lower_50``, ``upper_50`` and so on. Of a
        fit without standard errors the intervals take the parameters as known.

    Raises:
        ValueError: a level that is no probability.

    Example:
        >>> import dgmm
        >>> from dgmm.plots import fan
        >>> sleep = dgmm.datasets.load("sleepstudy")
        >>> fit = dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", sleep)
        >>> list(fan(fit, sleep.query("Subject == '308'"), levels=(0.8,)).columns)
        ['fit', 'lower_80', 'upper_80']
    """
    found = fit.predict(
        data,
        history=history,
        interval="prediction",
        level=sorted(levels),
        theta=theta_word(fit),
        seed=seed,
    )
    return found.drop(columns="se")


@picture
def plot_fan(
    fit: Fit,
    data: Any,
    *,
    history: Any = None,
    levels: Sequence[float] = (0.5, 0.8, 0.95),
    seed: int | None = None,
    x: str | None = None,
    ax: Any = None,
) -> np.ndarray:
    """The forecast of every subject: prediction intervals at several levels over time.

    Points are the outcomes that the forecast knows, ``history`` or those of the fit; the arguments
    and the numbers are those of :func:`fan`.

    x: the time; by default that of the model, else the first number of the formula that varies
        within subjects.
    ax: as many axes as subjects in ``data``, to draw into.

    Returns:
        An array of axes, one for every subject.

    Raises:
        ValueError: as :func:`fan`; nothing varies within subjects, or ``data`` lacks that column.
    """
    rows, known = Table(data).frame(), raw_of(fit, history, "plot_fan()")
    time, group = known.course(x, "plot_fan()"), fit.memory.groups[0]
    for column in (time, group):
        if column not in rows.columns:
            raise ValueError(f"plot_fan() needs the column `{column}` in the rows to predict")
    table = fan(fit, rows, history=history, levels=levels, seed=seed)
    ids = np.array([label_key(one) for one in rows[group]], dtype=object)
    chosen = list(dict.fromkeys(ids))
    drawn = sheet(ax, "plot_fan()", len(chosen), width=3.8, height=2.8, sharey=True)
    for axis, key in zip(drawn.axes, chosen, strict=True):
        here = np.flatnonzero(ids == key)
        when = rows[time].to_numpy(dtype=float)[here]
        order = np.argsort(when, kind="stable")
        draw_fan(axis, when[order], table.iloc[here[order]], levels)
        past = known.of(key)
        axis.plot(
            known.frame[time].iloc[past], known.y[past], "o", color="black", ms=3, label="observed"
        )
    return name_panels(drawn, fit, [f"{group} {key}" for key in chosen], time)


def draw_fan(axis: Any, x: np.ndarray, table: pd.DataFrame, levels: Sequence[float]) -> None:
    """Bands of :func:`fan`, the widest first, and the line of expected values."""
    for level in sorted(levels, reverse=True):
        low, high = (table[f"{end}_{100 * level:g}"] for end in ("lower", "upper"))
        shade, name = mixed(COLOURS[0], 0.15 + 0.5 * (1 - level)), f"{100 * level:g} %"
        axis.fill_between(x, low, high, color=shade, lw=0, label=name)
    axis.plot(x, table["fit"], color=COLOURS[0], lw=1.6, label="expected")
