"""The fixed part over a covariate, with its bands."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dgmm.fit import Fit
from dgmm.plots.axes import COLOURS, categories, picture, shades, sheet, short
from dgmm.plots.words import mean_words, name_categories, predictor_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_effects"]

MOST_TICKS = 200

LETTERS = 13.5
"""Letters of a title in an inch."""

FEW = 3
"""Curves whose bands may be filled: those of more would hide each other."""


@picture
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
    ax: Any = None,
) -> Axes:
    """The fixed part over a covariate with its pointwise and simultaneous band.

    A category is drawn by points and bars; of two covariates the second one makes a curve per
    value, from dark to light where it is a number. The band of one curve is dark pointwise and
    light simultaneously; up to three have their pointwise bands filled and their simultaneous ones
    as thin lines; of more curves only the pointwise ends are drawn, dotted. Ticks at the bottom are
    the sample; the title says what is drawn and at what other covariates are held.

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        covariates: as the others of :meth:`dgmm.Fit.effects`.
        scale: likewise.
        type: likewise.
        term: likewise.
        at: likewise.
        grid: likewise.
        level: likewise.
        ax: axes to draw into.
    """
    focal = [covariates] if isinstance(covariates, str) else list(covariates)
    options: dict[str, Any] = {"scale": scale, "type": type, "term": term, "at": at}
    table = fit.effects(focal, **options, grid=grid, level=level)
    first, numeric = focal[0], _is_number(fit, focal[0])
    groups = [(None, table)] if len(focal) == 1 else list(table.groupby(focal[1], sort=False))
    ordered = len(focal) > 1 and _is_number(fit, focal[1])
    colours = shades(len(groups)) if ordered else [COLOURS[j % 5] for j in range(len(groups))]
    drawn = sheet(ax, "plot_effects()", height=3.8)
    axis = drawn.one
    for j, (value, own) in enumerate(groups):
        label = None if value is None else f"{focal[1]} = {short(value)}"
        if numeric:
            _curve(axis, own, first, colours[j], label, len(groups))
        else:
            _bars(axis, own, colours[j], label, 0.12 * (j - (len(groups) - 1) / 2))
    if numeric:
        seen = np.unique(fit.memory.covariates[first].values[fit.estimate.panel.observed.numpy()])
        ticks = seen[:: int(np.ceil(len(seen) / MOST_TICKS))]
        axis.vlines(ticks, 0, 0.025, color="0.3", lw=0.6, transform=axis.get_xaxis_transform())
    else:
        categories(axis, list(groups[0][1][first]))
    held = {} if term is not None else {**fit.held_covariates(scale), **(at or {})}
    lines = [_bands(numeric, len(groups), level), *_others(focal, held)]
    width = int(LETTERS * axis.figure.get_figwidth()) if drawn.own else 60
    title = "\n".join(textwrap.fill(line, width) for line in lines)
    axis.set_title(title, fontsize=8, loc="left")
    if scale == "response":
        name_categories(axis.yaxis, fit)
    drawn.label(first, term or _in_words(fit, scale, type))
    drawn.legend()
    return axis


def _is_number(fit: Fit, name: str) -> bool:
    made = fit.memory.spec.levels_of(name)
    return fit.memory.covariates[name].variable.kind == "number" and not made


def _in_words(fit: Fit, scale: str, type: str | None) -> str:
    if scale == "link":
        return predictor_words(fit)
    said = "random effects zero" if type == "mean_subject" else "population"
    return f"{mean_words(fit)} ({said})"


def _curve(
    axis: Any, own: pd.DataFrame, name: str, colour: Any, label: str | None, curves: int
) -> None:
    x = own[name].to_numpy(dtype=float)
    if curves <= FEW:
        axis.fill_between(x, own["lower"], own["upper"], color=colour, alpha=0.25, lw=0)
    if curves == 1:
        axis.fill_between(x, own["sim_lower"], own["sim_upper"], color=colour, alpha=0.15, lw=0)
    else:
        many = curves > FEW
        for end in ("lower", "upper") if many else ("sim_lower", "sim_upper"):
            axis.plot(x, own[end], color=colour, lw=0.7, ls=":" if many else "-")
    axis.plot(x, own["fit"], color=colour, lw=1.8, label=label)


def _bars(axis: Any, own: pd.DataFrame, colour: Any, label: str | None, shift: float) -> None:
    x = np.arange(len(own)) + shift
    for low, high, width in (("sim_lower", "sim_upper", 1.0), ("lower", "upper", 3.0)):
        axis.vlines(x, own[low], own[high], color=colour, lw=width)
    axis.plot(x, own["fit"], "o", color=colour, ms=5, label=label)
    axis.margins(x=0.15)


def _bands(numeric: bool, curves: int, level: float) -> str:
    """What the bands are."""
    percent = f"{100 * level:g} %"
    if not numeric:
        return f"{percent} intervals: thick pointwise, thin for all categories together"
    if curves == 1:
        return f"{percent} bands: dark pointwise, light for the whole curve"
    if curves <= FEW:
        return f"{percent} bands: filled pointwise, thin lines for the whole curve"
    return f"dotted: {percent} pointwise"


def _others(focal: Sequence[str], held: Mapping[str, Any]) -> list[str]:
    """Where the other covariates stand."""
    others = [f"{name} = {short(held[name])}" for name in held if name not in focal]
    return [f"held: {', '.join(others)}"] if others else []
