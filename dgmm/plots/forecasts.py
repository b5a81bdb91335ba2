"""Prediction intervals at several levels, as numbers and as a fan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dgmm.design import Table, label_key
from dgmm.fit import Fit
from dgmm.plots.axes import COLOURS, labelled, panels
from dgmm.prediction.moments import outcomes_seen
from dgmm.runtime.gate import gate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_fan", "fan", "plot_fan"]


@gate
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
        A frame in the order of ``data``: ``fit``, then ``lower_50``, ``upper_50`` and so on.

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
    wrong = [level for level in levels if not 0 < level < 1]
    if wrong or not len(levels):
        shown = wrong[0] if wrong else "none"
        raise ValueError(
            f"levels are probabilities between 0 and 1, as in (0.5, 0.95); not {shown}"
        )
    options: dict[str, Any] = {"history": history, "interval": "prediction", "seed": seed}
    found = {level: fit.predict(data, level=level, **options) for level in sorted(levels)}
    columns = {"fit": next(iter(found.values()))["fit"]}
    for level, table in found.items():
        for end in ("lower", "upper"):
            columns[f"{end}_{100 * level:g}"] = table[end]
    return pd.DataFrame(columns)


@gate
def plot_fan(
    fit: Fit,
    data: Any,
    *,
    history: Any = None,
    levels: Sequence[float] = (0.5, 0.8, 0.95),
    seed: int | None = None,
) -> Figure:
    """The forecast of every subject: prediction intervals at several levels over time.

    Points are the outcomes that the forecast knows, ``history`` or those of the fit; the arguments
    and the numbers are those of :func:`fan`.

    Raises:
        ValueError: as :func:`fan`; the model has no time variable, or ``data`` lacks it.
    """
    time, group = fit.memory.spec.time_name, fit.memory.groups[0]
    rows = Table(data).frame()
    if time is None or time not in rows.columns or group not in rows.columns:
        raise ValueError(
            "plot_fan() needs a time variable left of the bar and the subject's column"
        )
    table = fan(fit, rows, history=history, levels=levels, seed=seed)
    ids = [label_key(one) for one in rows[group]]
    chosen = list(dict.fromkeys(ids))
    known = _outcomes(fit, history)
    figure, axes = panels(len(chosen), 3.8, sharey=True)
    for axis, one in zip(axes, chosen, strict=False):
        here = np.array([id == one for id in ids])
        order = np.argsort(rows.loc[here, time].to_numpy(dtype=float), kind="stable")
        x, own = rows.loc[here, time].to_numpy(dtype=float)[order], table[here].iloc[order]
        draw_fan(axis, x, own, levels)
        seen = known[known["id"] == one]
        axis.plot(seen["time"], seen["y"], "o", color="black", ms=3)
        axis.set_title(f"{group} {one}", fontsize=9)
    return labelled(figure, fit)


def draw_fan(axis: Any, x: np.ndarray, table: pd.DataFrame, levels: Sequence[float]) -> None:
    """Bands of :func:`fan`, the widest first, and the line of expected values."""
    for level in sorted(levels, reverse=True):
        low, high = (table[f"{end}_{100 * level:g}"] for end in ("lower", "upper"))
        shade, name = _mixed(COLOURS[0], 0.15 + 0.5 * (1 - level)), f"{100 * level:g} %"
        axis.fill_between(x, low, high, color=shade, lw=0, label=name)
    axis.plot(x, table["fit"], color=COLOURS[0], lw=1.6)


def _mixed(colour: str, share: float) -> tuple[float, ...]:
    """A colour (#rrggbb) with white, opaque, so that a legend shows what a picture does."""
    parts = (int(colour[j : j + 2], 16) / 255 for j in (1, 3, 5))
    return tuple(1 - share * (1 - part) for part in parts)


def _outcomes(fit: Fit, history: Any) -> pd.DataFrame:
    """id, time and y of the outcomes that a forecast knows."""
    panel = fit.estimate.panel
    if history is not None:
        panel = outcomes_seen(fit.estimate, fit.memory.spec, history)
    ids = [label_key(panel.ids[j]) for j in panel.subject.tolist()]
    values = fit.estimate.model.family.response(panel.rows.data).numpy()
    return pd.DataFrame({"id": ids, "time": panel.rows.time.numpy(), "y": values})
