"""Colours, panels of subjects, a legend that covers no data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dgmm.fit import Fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "labelled", "panels", "short"]

COLOURS = ("#1f5a94", "#c2571a", "#3f7f4c", "#7a4f9a", "#6b6b6b")


def panels(
    count: int,
    width: float,
    height: float = 2.8,
    beside: float = 0.4,
    *,
    sharex: bool = False,
    sharey: bool = False,
    columns: int = 3,
) -> tuple[Figure, np.ndarray]:
    """A figure with ``count`` axes, at most ``columns`` beside each other, of some inches each.

    beside: inches of height around them.
    """
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = int(np.ceil(count / columns))
    figure = Figure(figsize=(width * columns, height * rows + beside), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False).ravel()
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes


def labelled(figure: Figure, fit: Fit) -> Figure:
    """Time below, the outcome beside, one legend above."""
    figure.supxlabel(str(fit.memory.spec.time_name))
    figure.supylabel(fit.formula.split("~")[0].strip())
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return figure


def short(value: Any) -> str:
    """A value as titles have it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
