"""The fixed part over a covariate, with its bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dgmm.fit import Fit
from dgmm.plots.axes import COLOURS, short
from dgmm.runtime.gate import gate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_effects"]

MOST_TICKS = 200


@gate
def plot_effects(
    fit: Fit,
    covariates: str | Sequence[str],
    *,
    scale: str = "link",
    type: str | None = None,
    term: str | None = None,
    at: Mapping[str, Any] | None = None,
    grid: int = 101,
    level: float = 0.95,
) -> Figure:
    """The fixed part over a covariate with its pointwise (dark) and simultaneous (light) band.

    The arguments are those of :meth:`dgmm.Fit.effects`. A category is drawn by points and bars; of
    two covariates the second one makes a curve per value, the simultaneous bands then being thin
    lines. Ticks at the bottom are the sample; the title says at what other covariates are held.
    """
    from matplotlib.figure import Figure

    focal = [covariates] if isinstance(covariates, str) else list(covariates)
    options: dict[str, Any] = {"scale": scale, "type": type, "term": term, "at": at}
    table = fit.effects(focal, **options, grid=grid, level=level)
    figure = Figure(figsize=(5.4, 3.8), layout="constrained")
    axis = figure.subplots()
    first, numeric = focal[0], fit.memory.covariates[focal[0]].variable.kind == "number"
    groups = [(None, table)] if len(focal) == 1 else list(table.groupby(focal[1], sort=False))
    for j, (value, own) in enumerate(groups):
        label = None if value is None else f"{focal[1]} = {short(value)}"
        draw = _curve if numeric else _bars
        colour, shift = COLOURS[j % len(COLOURS)], 0.12 * (j - (len(groups) - 1) / 2)
        draw(axis, own, first, colour, label, shift)
    if numeric:
        seen = np.unique(fit.memory.covariates[first].values[fit.estimate.panel.observed.numpy()])
        ticks = seen[:: int(np.ceil(len(seen) / MOST_TICKS))]
        axis.vlines(ticks, 0, 0.025, color="0.3", lw=0.6, transform=axis.get_xaxis_transform())
    if len(focal) > 1:
        axis.legend(frameon=False)
    held = {} if term is not None else {**fit.held_covariates(scale), **(at or {})}
    axis.set_title(_explained(focal, held, level), fontsize=8, loc="left")
    axis.set_xlabel(first)
    axis.set_ylabel(term or _mean_in_words(fit, scale, type))
    return figure


def _mean_in_words(fit: Fit, scale: str, type: str | None) -> str:
    link = fit.estimate.model.family.link.name
    said = "" if link == "identity" else f" ({link})"
    if scale == "response":
        said = " (random effects zero)" if type == "mean_subject" else " (population)"
    return f"mean of {fit.formula.split('~')[0].strip()}{said}"


def _curve(
    axis: Any, own: pd.DataFrame, name: str, colour: str, label: str | None, _: float
) -> None:
    x = own[name].to_numpy(dtype=float)
    axis.fill_between(x, own["lower"], own["upper"], color=colour, alpha=0.25, lw=0)
    if label is None:
        axis.fill_between(x, own["sim_lower"], own["sim_upper"], color=colour, alpha=0.15, lw=0)
    else:  # light bands of several curves would hide each other
        for end in ("sim_lower", "sim_upper"):
            axis.plot(x, own[end], color=colour, lw=0.6)
    axis.plot(x, own["fit"], color=colour, lw=1.8, label=label)


def _bars(
    axis: Any, own: pd.DataFrame, name: str, colour: str, label: str | None, shift: float
) -> None:
    x = np.arange(len(own)) + shift
    for low, high, width in (("sim_lower", "sim_upper", 1.0), ("lower", "upper", 3.0)):
        axis.vlines(x, own[low], own[high], color=colour, lw=width)
    axis.plot(x, own["fit"], "o", color=colour, ms=5, label=label)
    axis.set_xticks(np.arange(len(own)), [str(value) for value in own[name]])


def _explained(focal: Sequence[str], held: Mapping[str, Any], level: float) -> str:
    """What the bands are, and where the other covariates stand."""
    words = f"{100 * level:g} % bands: dark pointwise, light (or thin lines) for the whole curve"
    others = [f"{name} = {short(held[name])}" for name in held if name not in focal]
    return words + (f"\nheld: {', '.join(others)}" if others else "")
