"""Pictures of chains: traces, ranks, densities; a panel per scalar, a colour per chain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dgmm.fit import Fit
from dgmm.inference.posterior import Scalars, scalars
from dgmm.plots.axes import COLOURS, picture, sheet
from dgmm.runtime.registry import suggestion

__all__ = ["plot_density", "plot_ranks", "trace_of_chains"]

BINS = 20
GRID = 200


@picture
def plot_ranks(fit: Fit, parm: Sequence[str] | None = None, *, ax: Any = None) -> np.ndarray:
    """Ranks of the draws of every chain among all: flat where the chains are in one place.

    parm: scalars of a posterior, named as in confint(); by default all.
    ax: as many axes as scalars, to draw into.

    Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021), Bayesian Analysis 16, 667-718.
    """
    return ranks_of_chains(scalars(fit), parm, ax)


@picture
def plot_density(fit: Fit, parm: Sequence[str] | None = None, *, ax: Any = None) -> np.ndarray:
    """Posterior densities, a line for each chain.

    parm: scalars of a posterior, named as in confint(); by default all.
    ax: as many axes as scalars, to draw into.
    """
    return densities_of_chains(scalars(fit), parm, ax)


def trace_of_chains(found: Scalars, parm: Sequence[str] | None, ax: Any) -> np.ndarray:
    """Draws by their number."""

    def draw(axis: Any, own: np.ndarray) -> None:
        for c, chain in enumerate(own):
            line = {"lw": 0.4, "color": colour(c), "alpha": 0.5, "label": f"chain {c + 1}"}
            axis.plot(np.arange(1, len(chain) + 1), chain, **line)

    return _drawn(found, parm, draw, "plot_trace()", "draw", "value", ax)


def ranks_of_chains(found: Scalars, parm: Sequence[str] | None, ax: Any) -> np.ndarray:
    """Histograms of ranks; the grey line is where all would be if chains were exchangeable."""

    def draw(axis: Any, own: np.ndarray) -> None:
        counts, edges = rank_counts(own)
        for c, one in enumerate(counts):
            line = {"lw": 1, "color": colour(c), "label": f"chain {c + 1}"}
            axis.stairs(one, edges, baseline=None, **line)
        axis.axhline(own.shape[1] / BINS, color="0.6", lw=1)
        axis.set_ylim(bottom=0)

    return _drawn(found, parm, draw, "plot_ranks()", "rank", "draws", ax)


def rank_counts(own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draws (C, S) of every chain in bins of their ranks among all, (C, 20), and the bins' ends."""
    ranks = own.ravel().argsort(kind="stable").argsort(kind="stable").reshape(own.shape)
    edges = np.linspace(0, own.size, BINS + 1)
    return np.stack([np.histogram(one, edges)[0] for one in ranks]), edges


def densities_of_chains(found: Scalars, parm: Sequence[str] | None, ax: Any) -> np.ndarray:
    """Kernel estimates of the density by chain."""

    def draw(axis: Any, own: np.ndarray) -> None:
        low, high = np.quantile(own, [0.001, 0.999]).tolist()
        grid = np.linspace(low, high, GRID)
        for c, chain in enumerate(own):
            axis.plot(grid, density(chain, grid), color=colour(c), lw=1, label=f"chain {c + 1}")
        axis.set_yticks([])

    return _drawn(found, parm, draw, "plot_density()", "value", "density", ax)


def density(chain: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """A normal kernel estimate with the bandwidth 0.9 min(sd, IQR / 1.34) S^(-1/5) of Silverman."""
    low, high = np.quantile(chain, [0.25, 0.75])
    width = 0.9 * min(chain.std(), (high - low) / 1.34) * len(chain) ** -0.2
    width = width if width > 0 else 1.0
    z = (grid[:, None] - chain) / width
    found: np.ndarray = np.exp(-0.5 * z**2).mean(1) / (width * np.sqrt(2 * np.pi))
    return found


def colour(chain: int) -> str:
    """The colour of a chain."""
    return COLOURS[chain % len(COLOURS)]


def _drawn(
    found: Scalars,
    parm: Sequence[str] | None,
    draw: Callable[[Any, np.ndarray], None],
    asked: str,
    x: str,
    y: str,
    ax: Any,
) -> np.ndarray:
    names = list(found.names) if parm is None else list(parm)
    for name in names:
        if name not in found.names:
            hint = suggestion(str(name), list(found.names))
            raise ValueError(
                f"there is no parameter {name!r}{hint} Known: {', '.join(found.names)}."
            )
    drawn = sheet(ax, asked, len(names), width=3.4, height=2.2)
    for axis, name in zip(drawn.axes, names, strict=True):
        draw(axis, found[name])
        axis.set_title(name, fontsize=9)
    drawn.label(x, y)
    drawn.legend()
    return drawn.axes
