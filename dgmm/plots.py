"""Pictures of a fit; matplotlib is imported here alone, when a picture is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dgmm.chain_plots import plot_density, plot_ranks, trace_of_chains
from dgmm.design import Table, label_key
from dgmm.fit import Fit
from dgmm.inference.posterior import scalars
from dgmm.prediction.moments import outcomes_seen
from dgmm.runtime.gate import gate
from dgmm.tuning.cross_validation import Tuning

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "fan",
    "plot_density",
    "plot_effects",
    "plot_fan",
    "plot_profiles",
    "plot_ranks",
    "plot_trace",
    "plot_tuning",
]

COLOURS = ("#1f5a94", "#c2571a", "#3f7f4c", "#7a4f9a", "#6b6b6b")
POINTS = 60
MOST_TICKS = 200


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
    figure, axes = _panels(len(chosen), 3.4, sharex=True)
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
    return _labelled(figure, fit)


def _panels(count: int, width: float, *, sharex: bool) -> tuple[Figure, np.ndarray]:
    """A figure with an axis for every subject, at most three beside each other."""
    from matplotlib.figure import Figure

    columns = min(3, count)
    rows = int(np.ceil(count / columns))
    figure = Figure(figsize=(width * columns, 2.8 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=sharex, sharey=True, squeeze=False).ravel()
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes


def _labelled(figure: Figure, fit: Fit) -> Figure:
    """Time below, the outcome beside, one legend above."""
    figure.supxlabel(str(fit.memory.spec.time_name))
    figure.supylabel(fit.formula.split("~")[0].strip())
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return figure


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
    figure, axes = _panels(len(chosen), 3.8, sharex=False)
    for axis, one in zip(axes, chosen, strict=False):
        here = np.array([id == one for id in ids])
        order = np.argsort(rows.loc[here, time].to_numpy(dtype=float), kind="stable")
        x, own = rows.loc[here, time].to_numpy(dtype=float)[order], table[here].iloc[order]
        for level in sorted(levels, reverse=True):
            low, high = (own[f"{end}_{100 * level:g}"] for end in ("lower", "upper"))
            shade, name = _mixed(COLOURS[0], 0.15 + 0.5 * (1 - level)), f"{100 * level:g} %"
            axis.fill_between(x, low, high, color=shade, lw=0, label=name)
        axis.plot(x, own["fit"], color=COLOURS[0], lw=1.6)
        seen = known[known["id"] == one]
        axis.plot(seen["time"], seen["y"], "o", color="black", ms=3)
        axis.set_title(f"{group} {one}", fontsize=9)
    return _labelled(figure, fit)


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
        label = None if value is None else f"{focal[1]} = {_short(value)}"
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
    others = [f"{name} = {_short(held[name])}" for name in held if name not in focal]
    return words + (f"\nheld: {', '.join(others)}" if others else "")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@gate
def plot_trace(fit: Fit, parm: Sequence[str] | None = None) -> Figure:
    """ELBO per subject by epoch of the variational stage; of method="gibbs" the chains by draw.

    parm: scalars of a posterior, named as in confint(); by default all.
    """
    from matplotlib.figure import Figure

    if fit.estimate.chains is not None:
        return trace_of_chains(scalars(fit), parm)
    trace = fit.estimate.trace
    if trace is None:
        raise ValueError("this fit has no ELBO stage: it was fitted by exact or quadrature ML")
    figure = Figure(figsize=(5, 3), layout="constrained")
    axis = figure.subplots()
    axis.plot(np.arange(1, len(trace.elbo) + 1), trace.elbo, color=COLOURS[0], lw=1.2)
    axis.set_xlabel("epoch")
    axis.set_ylabel("ELBO per subject")
    return figure


@gate
def plot_tuning(tuning: Tuning) -> Figure:
    """Log score of every candidate of :func:`dgmm.tune` minus that of the best.

    Bars reach one standard error of the paired difference to both sides; a candidate whose bar
    reaches zero is not told from the best, and the smallest of these (filled) is chosen.
    """
    from matplotlib.figure import Figure

    table = tuning.table[::-1]
    height = np.arange(len(table))
    figure = Figure(figsize=(6, 0.9 + 0.32 * len(table)), layout="constrained")
    axis = figure.subplots()
    axis.axvline(0, color="0.75", lw=1)
    gap, error = table["difference"], table["se_difference"]
    axis.errorbar(gap, height, xerr=error, fmt="none", color=COLOURS[0], lw=1.2)
    for at, name, value in zip(height, table.index, gap, strict=True):
        colour = COLOURS[1] if name == tuning.chosen else COLOURS[0]
        face = colour if name == tuning.chosen else "white"
        axis.plot(value, at, "o", ms=6, markerfacecolor=face, markeredgecolor=colour)
    axis.set_yticks(height, table.index)
    axis.set_xlabel("log score per subject, difference to the best (± 1 s.e.)")
    axis.spines[["top", "right"]].set_visible(False)
    return figure
