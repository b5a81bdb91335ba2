"""How a fit, its chains or the options of a network were found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dgmm.fit import Fit
from dgmm.inference.posterior import scalars
from dgmm.plots.axes import COLOURS
from dgmm.plots.chains import trace_of_chains
from dgmm.runtime.gate import gate
from dgmm.tuning.cross_validation import Tuning

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_trace", "plot_tuning"]


@gate
def plot_trace(fit: Fit, parm: Sequence[str] | None = None) -> Figure:
    """ELBO per subject by epoch of the variational stage; of method="gibbs" the chains by draw.

    parm: scalars of a posterior, named as in confint(); by default all.
    """
    from matplotlib.figure import Figure

    if fit.sampled:
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
