"""The predicted course of subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dgmm.design import Table, label_key
from dgmm.fit import Fit
from dgmm.plots.axes import COLOURS, labelled, panels
from dgmm.runtime.gate import gate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_profiles"]

POINTS = 60


@gate
def plot_profiles(
    fit: Fit,
    data: Any,
    subjects: Sequence[Any] | None = None,
    *,
    against: Mapping[str, Fit] | None = None,
    label: str = "dgmm",
    level: float = 0.95,
) -> Figure:
    """Observed outcomes and fitted profiles E(y | the subject's data) over time.

    Args:
        fit: the fit whose profiles are drawn, with a band for the expected value.
        data: the frame of the fit; covariates of a subject are taken from its last visit.
        subjects: ids to show; by default six, spread evenly from the lowest to the highest mean.
        against: further fits to draw as lines, by name.
        label: the name of ``fit`` in the legend.
        level: of the band.

    Raises:
        ValueError: the model has no time variable, or an id is not in the fit.
    """
    time, group = fit.memory.spec.time_name, fit.memory.groups[0]
    data = Table(data).frame()
    if time is None or time not in data.columns or group not in data.columns:
        raise ValueError("plot_profiles() needs a time variable left of the bar and the fit's data")
    known = {label_key(label) for label in fit.estimate.panel.ids}
    for one in () if subjects is None else subjects:
        if label_key(one) not in known:
            raise ValueError(f"subject {one!r} is not in the fit")
    chosen = [label_key(one) for one in (_spread(fit, 6) if subjects is None else subjects)]
    data = data.assign(**{group: [label_key(label) for label in data[group]]})
    grid = pd.concat([_grid(data, group, time, one) for one in chosen], ignore_index=True)
    band = fit.predict(grid, interval="confidence", level=level)
    others = {name: other.predict(grid)["fit"] for name, other in (against or {}).items()}
    return _draw(fit, grid, band, others, chosen, label)


def _spread(fit: Fit, count: int) -> list[Any]:
    """Subjects with several visits, evenly spaced by their mean outcome."""
    panel = fit.estimate.observed
    sizes = panel.count.numpy()
    sums = np.zeros(panel.n)
    np.add.at(sums, panel.subject.numpy(), panel.rows.data.y.numpy())
    often = np.flatnonzero(sizes >= np.quantile(sizes, 0.6))
    ranked = often[np.argsort(sums[often] / sizes[often], kind="stable")]
    places = np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int)
    return [panel.ids[j] for j in ranked[places]]


def _grid(data: pd.DataFrame, group: str, time: str, subject: str) -> pd.DataFrame:
    own = data[data[group] == subject]
    frame = pd.concat([own.iloc[[-1]]] * POINTS, ignore_index=True)
    frame[time] = np.linspace(own[time].min(), own[time].max(), POINTS)
    return frame


def _draw(
    fit: Fit,
    grid: pd.DataFrame,
    band: pd.DataFrame,
    others: dict[str, pd.Series],
    chosen: list[str],
    label: str,
) -> Figure:
    time, group = fit.memory.spec.time_name, fit.memory.groups[0]
    figure, axes = panels(len(chosen), 3.4, sharex=True, sharey=True)
    panel = fit.estimate.panel
    place = {label_key(one): j for j, one in enumerate(panel.ids)}
    outcome = fit.estimate.model.family.response(panel.rows.data).numpy()
    for axis, one in zip(axes, chosen, strict=False):
        here = (grid[group] == one).to_numpy()
        own = panel.subject.numpy() == place[one]
        at = grid.loc[here, time]
        axis.fill_between(
            at, band.loc[here, "lower"], band.loc[here, "upper"], color=COLOURS[0], alpha=0.18, lw=0
        )
        axis.plot(at, band.loc[here, "fit"], color=COLOURS[0], lw=1.8, label=label)
        for j, (name, values) in enumerate(others.items(), 1):
            style = {"color": COLOURS[j % len(COLOURS)], "lw": 1.4, "ls": "--"}
            axis.plot(at, values[here], label=name, **style)
        axis.plot(panel.rows.time.numpy()[own], outcome[own], "o", color="black", ms=3.5)
        axis.set_title(f"{group} {one}", fontsize=9)
    return labelled(figure, fit)
