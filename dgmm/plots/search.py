"""How a fit, its chains or the options of a network were found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dgmm.fit import Fit
from dgmm.inference.posterior import scalars
from dgmm.plots.axes import COLOURS, picture, sheet
from dgmm.plots.chains import trace_of_chains
from dgmm.runtime.gate import gate
from dgmm.tuning.cross_validation import Tuning

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_trace", "plot_tuning"]


@picture
def plot_trace(fit: Fit, parm: Sequence[str] | None = None, *, ax: Any = None) -> Axes | np.ndarray:
    """ELBO by epoch of the variational stage; of method="gibbs" the chains by draw.

    The ELBO is that of all subjects, as in ``summary(fit, verbose=True)``, whose value at the
    estimates is the dotted line. An epoch estimates it from few draws of b, at the parameters of
    its time; the dashed line is the log-likelihood of the estimates.

    parm: scalars of a posterior, named as in confint(); by default all.
    ax: axes to draw into; of chains as many as scalars.

    Returns:
        Axes; of chains an array of axes, one for every scalar.

    Raises:
        ValueError: a fit without a variational stage.
    """
    done = fit.estimate
    if fit.sampled:
        return trace_of_chains(scalars(fit), parm, ax)
    if done.trace is None:
        raise ValueError("this fit has no ELBO stage: it was fitted by exact or quadrature ML")
    drawn = sheet(ax, "plot_trace()")
    axis = drawn.one
    elbo = done.panel.n * np.array(done.trace.elbo)
    axis.plot(np.arange(1, len(elbo) + 1), elbo, color=COLOURS[0], lw=1.4, label="ELBO by epoch")
    if done.elbo is not None:
        axis.axhline(done.elbo, color=COLOURS[0], lw=1, ls=":", label="ELBO of the estimates")
    bound = "importance-weighted bound" if done.likelihood.bound else "log-likelihood"
    axis.axhline(done.log_likelihood, color=COLOURS[1], lw=1, ls="--", label=bound)
    axis.xaxis.get_major_locator().set_params(integer=True)
    drawn.label("epoch", "ELBO of all subjects")
    drawn.legend()
    return axis


@gate
def plot_tuning(tuning: Tuning, *, ax: Any = None) -> Axes:
    """Log score of every candidate of :func:`dgmm.tune` minus that of the best.

    Bars reach one standard error of the paired difference to both sides; a candidate whose bar
    reaches zero is not told from the best, and the smallest of these (filled) is chosen.

    ax: axes to draw into.
    """
    table = tuning.table[::-1]
    height = np.arange(len(table))
    drawn = sheet(ax, "plot_tuning()", width=6, height=0.6 + 0.32 * len(table))
    axis = drawn.one
    axis.axvline(0, color="0.75", lw=1)
    gap, error = table["difference"], table["se_difference"]
    axis.errorbar(gap, height, xerr=error, fmt="none", color=COLOURS[0], lw=1.2)
    for at, name, value in zip(height, table.index, gap, strict=True):
        colour = COLOURS[1] if name == tuning.chosen else COLOURS[0]
        face = colour if name == tuning.chosen else "white"
        axis.plot(value, at, "o", ms=6, markerfacecolor=face, markeredgecolor=colour)
    axis.set_yticks(height, table.index)
    axis.set_ylim(-0.6, len(table) - 0.4)
    drawn.label("log score per subject, difference to the best (± 1 s.e.)")
    return axis
