"""Ordered categories: their thresholds, and their probabilities over a covariate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dgmm.fit import Fit
from dgmm.inference.covariate_effects import mean_part
from dgmm.plots.axes import COLOURS, categories, picture, shades, sheet, short
from dgmm.plots.words import outcome_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_categories", "plot_thresholds"]

TYPES = {"marginal": "population", "mean_subject": "random effects zero"}


@picture
def plot_thresholds(fit: Fit, *, level: float = 0.95, ax: Any = None) -> Axes:
    """Thresholds of an ordinal model, with their intervals, among the subjects' predictors.

    An outcome is of the category between two thresholds where the latent variable, the linear
    predictor and an error, lies there. The histogram is of the fitted linear predictors of the
    rows.

    Args:
        fit: a fit with ``family="cumulative"``.
        level: of the intervals.
        ax: axes to draw into.

    Raises:
        ValueError: the outcome has no ordered categories.
    """
    names = _category_names(fit, "plot_thresholds()")
    table = fit.family_parameters(level)
    table = table[[" | " in str(one) or "|" in str(one) for one in table.index]]
    eta = fit.fitted("link").to_numpy()
    drawn = sheet(ax, "plot_thresholds()", height=3.2)
    axis = drawn.one
    counts, *_ = axis.hist(eta[np.isfinite(eta)], bins=30, color="0.85", label="fitted rows")
    top, at = float(counts.max()), table["estimate"].to_numpy()
    for j, (name, row) in enumerate(table.iterrows()):
        height = top * (1.15 + 0.16 * j)
        style = {"color": COLOURS[0], "lw": 1.2}
        label = f"threshold, {100 * level:g} %" if j == 0 else None
        axis.plot([row["estimate"]] * 2, [0, height], ls="--", **style)
        axis.plot([row["lower"], row["upper"]], [height] * 2, label=label, **style)
        axis.plot(row["estimate"], height, "o", color=COLOURS[0], ms=4)
        place = {"xytext": (0, 4), "textcoords": "offset points", "ha": "center"}
        axis.annotate(str(name), (row["estimate"], height), fontsize=8, color=COLOURS[0], **place)
    axis.set_ylim(0, top * (1.45 + 0.16 * len(at)))
    axis.set_yticks([tick for tick in axis.get_yticks() if tick <= top])
    low, high = axis.get_xlim()
    ends = [min(low, at[0] - 0.1 * (high - low)), *at, max(high, at[-1] + 0.1 * (high - low))]
    axis.set_xlim(ends[0], ends[-1])
    for name, left, right in zip(names, ends[:-1], ends[1:], strict=True):
        place = {"xycoords": ("data", "axes fraction"), "ha": "center", "va": "top"}
        axis.annotate(name, ((left + right) / 2, 0.99), fontsize=9, weight="bold", **place)
    link = fit.estimate.model.family.link.name
    drawn.label(f"latent variable of {outcome_words(fit)} ({link})", "rows")
    drawn.legend()
    return axis


@picture
def plot_categories(
    fit: Fit,
    covariate: str,
    *,
    type: str = "marginal",
    at: Mapping[str, Any] | None = None,
    grid: int = 61,
    ax: Any = None,
) -> Axes:
    """The probability of every category over a covariate, stacked from the lowest.

    Args:
        fit: a fit with ``family="cumulative"``.
        covariate: of the fixed part; a category of it has a bar.
        type: "marginal", of the population, random effects integrated out, or "mean_subject".
        at: values of other covariates, by default means and references.
        grid: number of values of a numeric covariate.
        ax: axes to draw into.

    Raises:
        ValueError: the outcome has no ordered categories; an unknown covariate or word.
    """
    names = _category_names(fit, "plot_categories()")
    if type not in TYPES:
        raise ValueError(f"type is 'marginal' or 'mean_subject', not {type!r}")
    x, share = category_shares(fit, covariate, type, at, grid)
    drawn = sheet(ax, "plot_categories()", height=3.6)
    axis, colours = drawn.one, shades(len(names))
    ends = np.concatenate([np.zeros((1, len(x))), share.to_numpy().T.cumsum(0)])
    numeric = x.dtype.kind == "f"
    for name, low, high, colour in zip(names, ends[:-1], ends[1:], colours, strict=True):
        if numeric:
            axis.fill_between(x, low, high, color=colour, lw=0, label=name)
        else:
            axis.bar(np.arange(len(x)), high - low, bottom=low, color=colour, width=0.7, label=name)
    axis.set_ylim(0, 1)
    if numeric:
        axis.set_xlim(x[0], x[-1])
    else:
        categories(axis, list(x))
    held = {**fit.held_covariates(), **(at or {})}
    others = [f"{one} = {short(value)}" for one, value in held.items() if one != covariate]
    axis.set_title(f"held: {', '.join(others)}" if others else "", fontsize=8, loc="left")
    drawn.label(covariate, f"probability of {outcome_words(fit)} ({TYPES[type]})")
    drawn.legend()
    return axis


def category_shares(
    fit: Fit, covariate: str, type: str, at: Mapping[str, Any] | None, grid: int
) -> tuple[np.ndarray, pd.DataFrame]:
    """Values of a covariate (G,) and probabilities of the categories there (G, K)."""
    found = fit.effects(covariate, at=at, grid=grid)[covariate]
    mean = mean_part(fit)
    frame = mean.frame({**(at or {}), covariate: list(found)}, len(found))
    share = fit.predict(frame, type=type, scale="categories")
    number = pd.api.types.is_numeric_dtype(found) and not fit.memory.spec.levels_of(covariate)
    return found.to_numpy(dtype=float if number else object), share


def _category_names(fit: Fit, asked: str) -> tuple[str, ...]:
    names = fit.estimate.model.family.category_names
    if not names:
        raise ValueError(
            f"{asked} is of ordered categories, family='cumulative'; this fit is of "
            f"family={fit.estimate.model.family.name!r}"
        )
    return names
