"""The data themselves: a line for every subject."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dgmm.design import first_category
from dgmm.fit import Fit
from dgmm.plots.axes import COLOURS, check_fit, sheet
from dgmm.plots.rows import find_subjects, raw_of, read_raw
from dgmm.plots.words import name_ticks, response_words
from dgmm.runtime.gate import gate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_spaghetti"]

ASKED = "plot_spaghetti()"

MOST_TIMES = 20
"""Distinct times at which means are taken as they are; of more they are grouped."""

BINS = 10


@gate
def plot_spaghetti(
    what: Fit | str,
    data: Any = None,
    *,
    x: str | None = None,
    by: str | None = None,
    subjects: Sequence[Any] = (),
    mean: bool = True,
    ax: Any = None,
) -> Axes:
    """The outcomes of every subject over time, and their mean.

    The mean is that of the outcomes seen, at every time, or in ten groups of like times where there
    are more than 20: of subjects who leave the study it is no mean of the model.

    Args:
        what: a fit, or a formula such as "y ~ time + (time | id)" before anything is fitted.
        data: the frame; by default that of the fit.
        x: the column on the horizontal axis; by default the time left of the bar, else the first
            number of the formula that varies within subjects.
        by: a column whose values have colours and means of their own.
        subjects: ids drawn in front, by name.
        mean: whether means are drawn.
        ax: axes to draw into.

    Raises:
        ValueError: a formula without data; a column or an id that is not in the data.

    Example:
        >>> import dgmm
        >>> from dgmm.plots import plot_spaghetti
        >>> sleep = dgmm.datasets.load("sleepstudy")
        >>> axes = plot_spaghetti("Reaction ~ Days + (1 | Subject)", sleep, subjects=["308"])
        >>> axes.get_ylabel()
        'Reaction'
    """
    if isinstance(what, str):
        if data is None:
            raise ValueError(f"{ASKED} of a formula needs the data: plot_spaghetti(formula, data)")
        raw, design = read_raw(what, data)
        spec = design.spec
    else:
        check_fit(what, ASKED)
        raw, spec = raw_of(what, data, ASKED), what.memory.spec
    name = raw.course(x, ASKED)
    when = raw.frame[name].to_numpy(dtype=float)
    seen = np.isfinite(raw.y) & np.isfinite(when)
    if by is not None and by not in raw.frame.columns:
        raise ValueError(f"by={by!r} of {ASKED} is no column of the data")
    shown = find_subjects(raw, subjects, ASKED)
    drawn = sheet(ax, ASKED)
    axis = drawn.one
    values = [None] if by is None else list(dict.fromkeys(raw.frame[by].sort_values()))
    for j, value in enumerate(values):
        own = seen if by is None else seen & (raw.frame[by] == value).to_numpy()
        colour = "0.55" if by is None else COLOURS[j % len(COLOURS)]
        for key in dict.fromkeys(raw.keys[own]):
            here = _in_order(raw.of(key), when, own)
            style = {"color": colour, "lw": 0.7, "alpha": 0.45, "marker": "o", "ms": 1.8}
            axis.plot(when[here], raw.y[here], **style)
        if mean and own.any():
            label = "mean" if by is None else f"{by} = {value}, mean"
            at, height = means_by_time(when[own], raw.y[own])
            axis.plot(at, height, color="black" if by is None else colour, lw=2.6, label=label)
    for j, key in enumerate(shown):
        here = _in_order(raw.of(key), when, seen)
        style = {"color": COLOURS[(j + 1) % len(COLOURS)], "lw": 1.6, "marker": "o", "ms": 3.5}
        axis.plot(when[here], raw.y[here], label=f"{raw.group} {key}", **style)
    drawn.label(name, response_words(spec))
    if spec.response_levels and spec.ordered_response:
        name_ticks(axis.yaxis, spec.response_levels, first_category(spec.response_levels))
    drawn.legend()
    return axis


def _in_order(rows: np.ndarray, when: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Some rows of a subject, in the order of time."""
    rows = rows[wanted[rows]]
    return rows[np.argsort(when[rows], kind="stable")]


def means_by_time(when: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean outcomes by time, or by groups of like times where there are many: places, heights."""
    group = pd.Series(when)
    if group.nunique() > MOST_TIMES:
        group = pd.Series(pd.qcut(when, BINS, labels=False, duplicates="drop"))
    table = pd.DataFrame({"when": when, "y": y}).groupby(group.to_numpy()).mean()
    return table["when"].to_numpy(), table["y"].to_numpy()
