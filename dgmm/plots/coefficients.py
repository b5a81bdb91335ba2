"""Estimates of several fits beside each other, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dgmm.fit import Fit
from dgmm.plots.axes import COLOURS, check_fit, sheet
from dgmm.report.tidy import tidy_table
from dgmm.runtime.gate import gate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_coefficients"]

ASKED = "plot_coefficients()"
MARKERS = "osD^v"


@gate
def plot_coefficients(
    *fits: Fit,
    names: Sequence[str] | None = None,
    terms: Sequence[str] | None = None,
    effects: str = "fixed",
    exponentiate: bool = False,
    level: float = 0.95,
    ax: Any = None,
) -> Axes:
    """Estimates and intervals of one fit or several, a line for every term.

    The numbers are those of :meth:`dgmm.Fit.tidy`.

    Args:
        fits: fits of :func:`dgmm.mixed_model`.
        names: their names in the legend; by default their formulas.
        terms: those to draw, in this order; by default all but the intercept.
        effects: "fixed" or "ran_pars".
        exponentiate: whether fixed effects are exponentials (odds, rate, mean ratios), on a
            logarithmic axis.
        level: of the intervals.
        ax: axes to draw into.

    Raises:
        TypeError: something that is no fit of one outcome.
        ValueError: no fit, a wrong number of names, no term to draw, or one that no fit has.

    Example:
        >>> import dgmm
        >>> from dgmm.plots import plot_coefficients
        >>> sleep = dgmm.datasets.load("sleepstudy")
        >>> fit = dgmm.mixed_model("Reaction ~ Days + (1 | Subject)", sleep)
        >>> [one.get_text() for one in plot_coefficients(fit).get_yticklabels()]
        ['Days']
    """
    if not fits:
        raise ValueError(f"{ASKED} needs at least one fit")
    for fit in fits:
        check_fit(fit, ASKED)
    titles = [fit.formula for fit in fits] if names is None else list(names)
    if len(titles) != len(fits):
        raise ValueError(f"names has {len(titles)} names for {len(fits)} fits")
    tables = [
        tidy_table(fit, effects, level=level, exponentiate=exponentiate).set_index("term")
        for fit in fits
    ]
    chosen = _terms(tables, terms)
    drawn = sheet(ax, ASKED, width=5.6, height=0.7 + (0.16 + 0.14 * len(fits)) * len(chosen))
    axis = drawn.one
    axis.axvline(1.0 if exponentiate else 0.0, color="0.75", lw=1)
    place = {term: len(chosen) - 1 - j for j, term in enumerate(chosen)}
    for j, (title, table) in enumerate(zip(titles, tables, strict=True)):
        own = table.loc[[term for term in chosen if term in table.index]]
        shift = 0.0 if len(fits) == 1 else 0.5 * ((len(fits) - 1) / 2 - j) / (len(fits) - 1) * 0.8
        height = np.array([place[term] for term in own.index]) + shift
        colour = COLOURS[j % len(COLOURS)]
        axis.hlines(height, own["conf.low"], own["conf.high"], color=colour, lw=1.6)
        marker = MARKERS[j % len(MARKERS)]
        axis.plot(own["estimate"], height, marker, color=colour, ms=5, label=title)
    axis.set_yticks(np.arange(len(chosen)), chosen[::-1])
    axis.set_ylim(-0.6, len(chosen) - 0.4)
    if exponentiate:
        _ratios(axis)
    percent = f"{100 * level:g} % interval"
    drawn.label(f"{'ratio' if exponentiate else 'estimate'} with {percent}")
    if len(fits) > 1:
        drawn.legend()
    return axis


def _ratios(axis: Any) -> None:
    """A logarithmic axis with few numbers, as 0.5, 1, 2."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _terms(tables: Sequence[Any], terms: Sequence[str] | None) -> list[str]:
    known = list(dict.fromkeys(str(term) for table in tables for term in table.index))
    for one in terms or ():
        if one not in known:
            raise ValueError(f"there is no term {one!r}; known: {', '.join(known)}")
    chosen = [one for one in known if one != "(Intercept)"] if terms is None else list(terms)
    if not chosen:
        raise ValueError(f"{ASKED}: there is no term but the intercept: terms=['(Intercept)']")
    return chosen
