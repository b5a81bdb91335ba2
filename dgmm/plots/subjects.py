"""What subjects deviate by: caterpillars and normal quantiles of random effects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from dgmm.fit import Fit
from dgmm.plots.axes import COLOURS, picture, sheet, short
from dgmm.plots.rows import raw_of
from dgmm.plots.words import predictor_words
from dgmm.prediction.at_estimate import effect_matrix

__all__ = ["plot_qq", "plot_ranef"]

MOST_NAMES = 40
"""Levels whose names are written at a caterpillar."""


class Effects(NamedTuple):
    """Predicted effects of the levels of a grouping factor."""

    group: str
    mean: pd.DataFrame  # (n, q)
    sd: pd.DataFrame  # (n, q) given the data
    spread: pd.Series  # (q,) SD over the population


@picture
def plot_ranef(
    fit: Fit,
    effects: Sequence[str] | None = None,
    *,
    group: str | None = None,
    at: Sequence[float] | None = None,
    level: float = 0.95,
    ax: Any = None,
) -> np.ndarray:
    """Predicted random effects in the order of their size, with intervals (a caterpillar).

    The effects of a network mean nothing one by one: of it the deviation of every subject from the
    mean subject is drawn, at some values of the time.

        E(b | y) +- z sd(b | y),    of a network E(mu2 | y) +- z sd(mu2 | y)

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        effects: columns of ``fit.ranef()`` to draw; by default all.
        group: the grouping factor, where there are several; by default the first.
        at: of a network the times; by default the first, the middle and the last.
        level: of the intervals, at the estimates.
        ax: as many axes as panels, to draw into.

    Returns:
        An array of axes, one for every effect or time.

    Raises:
        ValueError: a factor or an effect that the model does not have; a path alone, which has a
            state at every visit and no effect of a subject.
    """
    asked = "plot_ranef()"
    networks = any(one.neural and not one.recursive for one in fit.estimate.model.latents)
    if networks and effects is None:
        found, titles = _curves(fit, at, asked), None
    else:
        found = _effects(fit, group, asked)
        titles = _chosen(found, effects)
    names = titles or list(found.mean.columns)
    z = float(special.ndtri(0.5 + level / 2))
    count = len(found.mean)
    tall = 0.6 + 0.16 * count if count <= MOST_NAMES else 4.2
    drawn = sheet(ax, asked, len(names), width=3.0, height=max(tall, 2.4))
    for axis, name in zip(drawn.axes, names, strict=True):
        mean, sd = found.mean[name], found.sd[name]
        order = np.argsort(mean.to_numpy(), kind="stable")
        height, middle, half = np.arange(count), mean.iloc[order], z * sd.iloc[order]
        axis.axvline(0, color="0.7", lw=1)
        axis.hlines(height, middle - half, middle + half, color=COLOURS[0], lw=1.0)
        axis.plot(middle, height, "o", color=COLOURS[0], ms=3)
        axis.set_title(name, fontsize=9)
        axis.set_ylim(-0.8, count - 0.2)
        if count <= MOST_NAMES:
            axis.set_yticks(height, [str(one) for one in middle.index], fontsize=7)
        else:
            axis.set_yticks([])
    percent = f"{100 * level:g} %"
    said = f"{predictor_words(fit)}, less that of the mean subject" if titles is None else "effect"
    drawn.label(f"{said} ({percent} intervals)", found.group)
    return drawn.axes


@picture
def plot_qq(
    fit: Fit,
    effects: Sequence[str] | None = None,
    *,
    group: str | None = None,
    level: float = 0.95,
    ax: Any = None,
) -> np.ndarray:
    """Normal quantiles of predicted random effects.

    A predicted effect varies by less than the effect itself, the less the less is known of a
    subject: in units of its own standard deviation it is standard normal where the model is right.

        z_i = E(b_i | y) / {D - var(b_i | y)}^1/2

    The band holds every ordered z_i with the probability ``level``, point by point. Given few
    outcomes per subject these are nearly normal whatever the effects are; ``fit.check()`` tests
    draws of them.

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        effects: columns of ``fit.ranef()`` to draw; by default all, of networks the coordinates
            of b.
        group: the grouping factor, where there are several; by default the first.
        level: of the band.
        ax: as many axes as effects, to draw into.

    Returns:
        An array of axes, one for every effect.

    Raises:
        ValueError: as :func:`plot_ranef`; no effect varies between subjects.

    References:
        Lange and Ryan (1989), Annals of Statistics 17, 624-642.
    """
    found = _effects(fit, group, "plot_qq()")
    names = _chosen(found, effects)
    every = [standardised(found.mean[n], found.sd[n], float(found.spread[n])) for n in names]
    drawn = sheet(ax, "plot_qq()", len(names), width=3.2, height=3.0)
    for axis, name, z in zip(drawn.axes, names, every, strict=True):
        count = len(z)
        at = np.arange(1, count + 1)
        expected = special.ndtri((at - 0.375) / (count + 0.25))
        ends = [
            special.ndtri(special.betaincinv(at, count + 1 - at, share))
            for share in (0.5 - level / 2, 0.5 + level / 2)
        ]
        axis.fill_between(expected, *ends, color="0.85", lw=0, label=f"{100 * level:g} % band")
        axis.plot(expected[[0, -1]], expected[[0, -1]], color="0.5", lw=1)
        axis.plot(expected, np.sort(z), "o", color=COLOURS[0], ms=3)
        axis.set_title(name, fontsize=9)
    drawn.label("normal quantiles", f"effects of {found.group}, standardised")
    drawn.legend()
    return drawn.axes


def standardised(mean: pd.Series, sd: pd.Series, spread: float) -> np.ndarray:
    """Predicted effects in units of their own standard deviation, where there is any, (n,)."""
    own = spread**2 - sd.to_numpy(dtype=float) ** 2
    known = own > 1e-8 * max(spread**2, 1e-300)
    if not known.any():
        raise ValueError(
            f"plot_qq(): the predictions of `{mean.name}` do not vary between subjects: its "
            "standard deviation is zero, or nothing is known of anyone"
        )
    found: np.ndarray = mean.to_numpy(dtype=float)[known] / np.sqrt(own[known])
    return found


def _effects(fit: Fit, group: str | None, asked: str) -> Effects:
    """The table of ranef() of a grouping factor, and the SD of its effects."""
    tables = fit.ranef(cond_var=True)
    done = fit.estimate
    factors = done.panel.factors(len(done.model.latents))
    if not isinstance(tables, dict):
        tables = {fit.memory.groups[0]: tables}
    names = list(tables)
    chosen = names[0] if group is None else group
    if chosen not in names:
        raise ValueError(f"group={group!r} of {asked} is not one of {', '.join(names)}")
    table, factor = tables[chosen], factors[names.index(chosen)]
    matrix, columns = effect_matrix(done, factor.terms)
    spread = pd.Series(matrix.square().sum(1).sqrt().detach().numpy(), index=columns)
    sd = table[[f"sd({name})" for name in columns]].set_axis(columns, axis=1)
    return Effects(chosen, pd.DataFrame(table)[columns], pd.DataFrame(sd), spread)


def _chosen(found: Effects, effects: Sequence[str] | None) -> list[str]:
    known = list(found.mean.columns)
    for one in effects or ():
        if one not in known:
            raise ValueError(f"there is no effect {one!r} of {found.group}; known: {known}")
    return known if effects is None else list(effects)


def _curves(fit: Fit, at: Sequence[float] | None, asked: str) -> Effects:
    """Deviations of subjects from the mean subject on the link scale, at some times."""
    raw = raw_of(fit, None, asked)
    name = raw.course(None, asked)
    when = raw.frame[name].to_numpy(dtype=float)
    low, high = np.nanmin(when), np.nanmax(when)
    middle = when[np.nanargmin(np.abs(when - (low + high) / 2))]
    times = [low, middle, high] if at is None else [float(one) for one in at]
    keys = list(dict.fromkeys(raw.keys))
    last = raw.frame.iloc[[raw.of(key)[-1] for key in keys]].reset_index(drop=True)
    rows = pd.concat([last.assign(**{name: time}) for time in times], ignore_index=True)
    own = fit.predict(rows, scale="link", interval="confidence", theta="held")
    typical = fit.predict(rows, scale="link", type="mean_subject")["fit"]
    titles = [f"{name} = {short(float(time))}" for time in times]
    away, spread = (
        pd.DataFrame(one.to_numpy().reshape(len(times), -1).T, index=keys, columns=titles)
        for one in (own["fit"] - typical, own["se"])
    )
    return Effects(raw.group, away, spread, pd.Series(dtype=float))
