"""Pictures of checks: data beside data drawn from the fit, residuals, calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from dgmm.fit import Fit
from dgmm.plots.axes import COLOURS, picture, sheet
from dgmm.plots.words import mean_words, name_categories, outcome_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_calibration", "plot_pp_check", "plot_residuals"]


@picture
def plot_pp_check(
    fit: Fit,
    kind: str = "density",
    *,
    nsim: int = 200,
    seed: int | None = None,
    ax: Any = None,
) -> Axes:
    """The outcomes beside data drawn from the fit; the numbers are those of ``fit.pp_check()``.

    The band holds 95 % of the data sets drawn, point by point.

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        kind: as :meth:`dgmm.Fit.pp_check`.
        nsim: data sets drawn.
        seed: of the draws.
        ax: axes to draw into.

    Raises:
        ValueError: as :meth:`dgmm.Fit.pp_check`.
    """
    table = fit.pp_check(kind, nsim=nsim, seed=seed)
    drawn = sheet(ax, "plot_pp_check()", height=3.4)
    axis, outcome, time = drawn.one, outcome_words(fit), fit.memory.spec.time_name
    band = {"color": COLOURS[0], "alpha": 0.25, "lw": 0}
    name = "drawn from the fit, 95 %"
    if kind == "rootogram":
        axis.bar(table["x"], table["observed"], color="0.75", width=0.8, label="observed")
        axis.vlines(table["x"], table["lower"], table["upper"], color=COLOURS[0], lw=2, label=name)
        axis.plot(table["x"], table["middle"], "o", color=COLOURS[0], ms=3)
    else:
        axis.fill_between(table["x"], table["lower"], table["upper"], label=name, **band)
        marker = "o-" if kind in ("variogram", "spread") else "-"
        line = {"color": "black", "lw": 1.4, "ms": 3, "label": "observed"}
        axis.plot(table["x"], table["observed"], marker, **line)
    labels = {
        "density": (outcome, "density"),
        "ecdf": (outcome, f"share of {outcome} up to here"),
        "rootogram": (outcome, "square root of frequency"),
        "variogram": (f"distance in {time}", "half mean squared difference"),
        "spread": (str(time), f"SD of {outcome} over subjects"),
    }
    drawn.label(*labels[kind])
    if kind in ("variogram", "spread", "density"):
        axis.set_ylim(bottom=0)
    drawn.legend()
    return axis


@picture
def plot_residuals(
    fit: Fit, *, conditional: bool = True, seed: int | None = None, ax: Any = None
) -> np.ndarray:
    """Quantile residuals: normal quantiles, against the mean and against time, and their histogram.

    Of a right model the points of the first panel lie on the line, the second and third have no
    shape and the fourth is flat. Lines of the second and third are running quartiles.

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        conditional: given a draw of the random effects, or over the population, missing outcomes
            completed from the model.
        seed: as :meth:`dgmm.Fit.residuals`.
        ax: four axes to draw into, three of a model without time.

    Returns:
        An array of axes, one for every panel.
    """
    found = fit.residuals("quantile", conditional=conditional, seed=seed)
    mean = fit.predict(type="mean_subject")["fit"].to_numpy()
    known = found.notna().to_numpy()
    u, time = found.to_numpy()[known], fit.estimate.panel.rows.time.numpy()[fit.memory.back][known]
    z = special.ndtri(u)
    timed = fit.memory.spec.time_name is not None
    drawn = sheet(ax, "plot_residuals()", 3 + timed, width=3.4, height=2.8, columns=2 + (not timed))
    axes = drawn.axes
    count = len(z)
    expected = special.ndtri((np.arange(1, count + 1) - 0.375) / (count + 0.25))
    axes[0].plot(expected, np.sort(z), "o", ms=2.5, color=COLOURS[0])
    axes[0].plot(expected[[0, -1]], expected[[0, -1]], color="0.5", lw=1)
    axes[0].set_xlabel("normal quantiles")
    axes[0].set_ylabel("residuals, as normal scores")
    sides = [(mean[known], f"{mean_words(fit)}, b = 0")]
    if timed:
        sides.append((time, str(fit.memory.spec.time_name)))
    for axis, (x, label) in zip(axes[1:-1], sides, strict=True):
        axis.plot(x, u, "o", ms=2, color=COLOURS[0], alpha=0.5)
        for at, values in _quartiles(x, u):
            axis.plot(at, values, color=COLOURS[1], lw=1.4)
        for height in (0.25, 0.5, 0.75):
            axis.axhline(height, color="0.6", lw=0.8, ls=":")
        axis.set_xlabel(label)
        axis.set_ylabel("quantile residuals")
        axis.set_ylim(0, 1)
    last = axes[-1]
    last.hist(u, bins=np.linspace(0, 1, 11), color=COLOURS[0], alpha=0.6)
    last.axhline(count / 10, color="0.5", lw=1)
    last.set_xlabel("quantile residuals")
    last.set_ylabel("outcomes")
    if drawn.own:
        axes[0].figure.suptitle(str(found.name), fontsize=10)
    else:
        axes[0].set_title(str(found.name), fontsize=9)
    return axes


def _quartiles(x: np.ndarray, u: np.ndarray, bins: int = 8) -> list[tuple[np.ndarray, np.ndarray]]:
    """Quartiles of u in groups of like x: the places and the three heights."""
    rank = np.argsort(np.argsort(x, kind="stable"), kind="stable")
    levels = np.unique(x)
    group = np.searchsorted(levels, x) if len(levels) <= bins else rank * bins // len(x)
    own = [group == g for g in np.unique(group)]
    at = np.array([x[one].mean() for one in own])
    return [(at, np.array([np.quantile(u[one], q) for one in own])) for q in (0.25, 0.5, 0.75)]


@picture
def plot_calibration(
    fit: Fit,
    newdata: Any = None,
    *,
    history: Any = None,
    outcome: Any = None,
    bins: int = 10,
    seed: int | None = None,
    ax: Any = None,
) -> Axes:
    """Means of outcomes against their predictions; the numbers are those of ``fit.calibration()``.

    Points on the line: what is predicted happens. Bars are 95 % limits of the observed mean.

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        newdata: as the others of :meth:`dgmm.Fit.calibration`.
        history: likewise.
        outcome: likewise.
        bins: likewise.
        seed: likewise.
        ax: axes to draw into.
    """
    table = fit.calibration(newdata, history=history, outcome=outcome, bins=bins, seed=seed)
    drawn = sheet(ax, "plot_calibration()", width=4.2, height=3.8)
    axis = drawn.one
    ends = [float(f(table[["predicted", "observed"]].to_numpy())) for f in (np.min, np.max)]
    axis.plot(ends, ends, color="0.6", lw=1)
    axis.vlines(table["predicted"], table["lower"], table["upper"], color=COLOURS[0], lw=1.4)
    axis.plot(table["predicted"], table["observed"], "o", color=COLOURS[0], ms=4)
    for side in (axis.xaxis, axis.yaxis):
        name_categories(side, fit)
    drawn.label(f"predicted {mean_words(fit)}", f"observed {mean_words(fit)}")
    return axis
