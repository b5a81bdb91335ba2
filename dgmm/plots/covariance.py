"""What the random part implies over time: standard deviations, correlations, covariances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dgmm.fit import Fit
from dgmm.plots.axes import COLOURS, picture, sheet
from dgmm.plots.words import predictor_words

__all__ = ["plot_covariance"]

ASKED = "plot_covariance()"
KINDS = ("correlation", "covariance")
TIMES = 25
WRITTEN = 8
"""Times up to which the numbers are written into the matrix."""


@picture
def plot_covariance(
    fit: Fit,
    times: Sequence[float] | None = None,
    *,
    kind: str = "correlation",
    term: int | None = None,
    at: Mapping[str, Any] | None = None,
    level: float = 0.95,
    ax: Any = None,
) -> np.ndarray:
    """Standard deviation of the random part over time, and its correlation between times.

    The numbers are those of :meth:`dgmm.Fit.random_profile`.

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        times: values of the time; by default 25 from the first to the last (of a path the times
            that were seen, at most so many).
        kind: of the second panel, "correlation" or "covariance".
        term: position of one random part; by default all that enter the mean together.
        at: values of other covariates of the random part.
        level: of the interval of the standard deviation, of linear random effects.
        ax: two axes to draw into.

    Returns:
        An array of two axes: the standard deviation, the matrix.

    Raises:
        ValueError: a random part that does not depend on time; as ``random_profile()``.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is 'correlation' or 'covariance', not {kind!r}")
    wanted = _times(fit) if times is None else np.unique(np.asarray(times, dtype=float))
    found = fit.random_profile(list(wanted), term=term, at=at, level=level)
    table = found.table.sort_values(found.table.columns[0], kind="stable")
    name, when = str(table.columns[0]), table.iloc[:, 0].to_numpy(dtype=float)
    order = table.index.to_numpy()
    matrix = found.correlation.to_numpy()[np.ix_(order, order)]
    sd = table["sd"].to_numpy()
    if kind == "covariance":
        matrix = matrix * sd[:, None] * sd
    drawn = sheet(ax, ASKED, 2, width=4.2, height=3.4)
    left, right = drawn.axes
    if np.isfinite(table["lower"]).all():
        left.fill_between(when, table["lower"], table["upper"], color=COLOURS[0], alpha=0.2, lw=0)
    left.plot(when, sd, color=COLOURS[0], lw=1.8, marker="o" if len(when) <= WRITTEN else "")
    left.set_ylim(bottom=0)
    left.set_xlabel(name)
    left.set_ylabel(f"SD between subjects\n({predictor_words(fit)})")
    _matrix(right, when, matrix, kind)
    right.set_xlabel(name)
    right.set_ylabel(name)
    return drawn.axes


def _matrix(axis: Any, when: np.ndarray, matrix: np.ndarray, kind: str) -> None:
    """The matrix as a picture; of few times with its numbers."""
    correlation = kind == "correlation"
    largest = 1.0 if correlation else float(np.nanmax(np.abs(matrix)))
    signed = bool(np.nanmin(matrix) < 0)
    few = len(when) <= WRITTEN
    places = np.arange(len(when), dtype=float) if few else when
    style: dict[str, Any] = {"shading": "nearest" if few else "gouraud", "vmax": largest}
    style |= {"vmin": -largest if signed else 0.0, "cmap": "RdBu_r" if signed else "Blues"}
    shown = axis.pcolormesh(places, places, matrix, **style)
    if few:
        labels = [f"{one:.4g}" for one in when]
        axis.set_xticks(np.arange(len(when)), labels)
        axis.set_yticks(np.arange(len(when)), labels)
        for i in range(len(when)):
            for j in range(len(when)):
                dark = abs(matrix[i, j]) > 0.6 * largest
                value = matrix[i, j]
                text = f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"
                axis.text(j, i, text, ha="center", va="center", fontsize=8,
                          color="white" if dark else "black")  # fmt: skip
    axis.set_aspect("equal")
    bar = axis.figure.colorbar(shown, ax=axis, shrink=0.85)
    bar.set_label(kind)


def _times(fit: Fit) -> np.ndarray:
    """Times from the first to the last one; of a path some of those that were seen."""
    name = fit.memory.spec.time_name
    if name is None:
        raise ValueError(
            f"{ASKED}: the random part does not depend on time, its standard deviation is the same "
            "everywhere: var_corr() has it"
        )
    seen = np.unique(fit.memory.covariates[name].values)
    seen = seen[np.isfinite(seen)]
    if fit.estimate.model.serial:
        return seen[np.linspace(0, len(seen) - 1, min(TIMES, len(seen))).round().astype(int)]
    return np.linspace(seen.min(), seen.max(), TIMES)
