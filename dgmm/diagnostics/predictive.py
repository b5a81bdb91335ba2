"""Data beside data drawn from the fit: densities, counts, variograms, spreads, calibration.

Random effects are drawn anew, and outcomes that are missing are drawn from the model given those
seen: of a right model the completed data and the drawn ones have one distribution, also where
subjects left at random given what was seen of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from dgmm.diagnostics.draws import completed, draws, theta_of
from dgmm.prediction import of_fit
from dgmm.prediction.predict import predict
from dgmm.record import Fitted
from dgmm.runtime.registry import suggestion
from dgmm.runtime.result_table import ResultTable

__all__ = ["KINDS", "calibration", "pp_check"]

GRID = 101
BINS = 10
MOST_COUNTS = 60


class Replicated(NamedTuple):
    """Completed outcomes and drawn ones, canonical order."""

    y: np.ndarray  # (N,)
    drawn: np.ndarray  # (N, S)
    mean: np.ndarray  # (N,) over the population
    subject: np.ndarray  # (N,)
    time: np.ndarray | None  # (N,)


Curve = Callable[[np.ndarray], np.ndarray]
"""Of outcomes (N,): a value for every point of a grid, (G,)."""


def pp_check(
    fit: Fitted, kind: str = "density", *, nsim: int = 200, seed: int | None = None
) -> pd.DataFrame:
    """Compare a summary of the outcomes with that of data drawn from the fit.

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        kind: "density" (kernel estimate), "ecdf", "rootogram" (square roots of the frequencies of
            counts or categories), "variogram" (half mean squared differences of y - E(y) within
            subjects by their distance in time) or "spread" (SD over subjects, by time).
        nsim: data sets drawn, with random effects of their own.
        seed: of the draws and of missing outcomes; by default that of the fit.

    Returns:
        A row per point of the curve: ``x``, ``observed``, and ``lower``, ``middle``, ``upper``,
        the 2.5, 50 and 97.5 percentiles over the data sets drawn, pointwise.
        ``dgmm.plots.plot_pp_check`` draws it.

    Raises:
        ValueError: no such kind; a rootogram of continuous outcomes; a variogram or spread over
            time in a model without time.

    References:
        Gelman, Meng and Stern (1996), Statistica Sinica 6, 733-807; Kleiber and Zeileis (2016), The
        American Statistician 70, 296-303 (rootograms).
    """
    if kind not in KINDS:
        raise ValueError(
            f"kind={kind!r} is not one of {', '.join(KINDS)}{suggestion(kind, list(KINDS))}"
        )
    found = _replicated(fit, nsim, fit.call.seed if seed is None else seed)
    x, of = KINDS[kind](fit, found)
    every = np.stack([of(column) for column in found.drawn.T])
    lower, middle, upper = np.nanquantile(every, [0.025, 0.5, 0.975], axis=0)
    columns = {"x": x, "observed": of(found.y), "lower": lower, "middle": middle, "upper": upper}
    outside = ((columns["observed"] < lower) | (columns["observed"] > upper)).mean()
    return ResultTable(
        columns,
        title=f"Predictive check, {kind}: {100 * outside:.0f} % of the points outside of the "
        f"pointwise 95 % of {nsim} data sets",
    )


def _replicated(fit: Fitted, nsim: int, seed: int) -> Replicated:
    done, generator = fit.estimate, torch.Generator().manual_seed(seed)
    panel, family = done.panel, done.model.family
    theta = theta_of(fit, generator)
    y = panel.rows.data.y
    if not bool(panel.observed.all()):
        y = completed(done.model, panel, next(draws(done, theta, 1, generator)), generator)
    drawn = of_fit.simulations(done, nsim, seed, condition=False)
    trials = torch.nan_to_num(panel.rows.data.trials, nan=1.0)
    data = panel.rows.data._replace(y=y, trials=trials)
    back = fit.memory.back
    mean = np.empty(panel.n_rows)
    mean[back] = predict(fit, type="marginal")["fit"].to_numpy()
    time = panel.rows.time.numpy()
    return Replicated(
        family.response(data).numpy(),
        drawn / trials.numpy()[:, None],
        mean,
        panel.subject.numpy(),
        time if fit.memory.spec.time_name is not None else None,
    )


# -- kinds -----------------------------------------------------------------------------------------


def _density(fit: Fitted, found: Replicated) -> tuple[np.ndarray, Curve]:
    """A normal kernel of the width 0.9 min(SD, IQR / 1.34) N^(-1/5) of the data."""
    low, high = np.quantile(found.y, [0.25, 0.75])
    size = min(s for s in (found.y.std(), (high - low) / 1.34, np.inf) if s > 0)
    width = 0.9 * size * len(found.y) ** -0.2 if np.isfinite(size) else 1.0
    grid = np.linspace(found.y.min() - 2 * width, found.y.max() + 2 * width, GRID)

    def of(y: np.ndarray) -> np.ndarray:
        counts, edges = np.histogram(y, np.linspace(grid[0] - width, grid[-1] + width, 1001))
        z = (grid[:, None] - 0.5 * (edges[1:] + edges[:-1])) / width
        return np.asarray(np.exp(-0.5 * z**2) @ counts / (len(y) * width * np.sqrt(2 * np.pi)))

    return grid, of


def _ecdf(fit: Fitted, found: Replicated) -> tuple[np.ndarray, Curve]:
    grid = np.unique(np.quantile(found.y, np.linspace(0, 1, GRID)))
    return grid, lambda y: np.searchsorted(np.sort(y), grid, side="right") / len(y)


def _rootogram(fit: Fitted, found: Replicated) -> tuple[np.ndarray, Curve]:
    family = fit.estimate.model.family
    if family.support not in ("counts", "binary", "ordered"):
        raise ValueError(
            f"a rootogram shows the frequencies of counts or categories, and family {family.name!r}"
            " has neither; use kind='density' or 'ecdf'"
        )
    low, high = int(found.y.min()), int(np.quantile(found.drawn, 0.99))
    grid = np.arange(low, min(max(high, int(found.y.max())), low + MOST_COUNTS) + 1)

    def of(y: np.ndarray) -> np.ndarray:
        return np.sqrt(np.bincount((y - low).clip(0, len(grid)).astype(int), minlength=len(grid)))[
            : len(grid)
        ]

    return grid.astype(float), of


def _variogram(fit: Fitted, found: Replicated) -> tuple[np.ndarray, Curve]:
    time, subject = _times(fit, found), found.subject
    first, second = [], []
    for lag in range(1, int(np.bincount(subject).max())):
        at = np.flatnonzero(subject[lag:] == subject[:-lag])
        first.append(at)
        second.append(at + lag)
    one, two = np.concatenate(first), np.concatenate(second)
    bins, centres = _binned(np.abs(time[two] - time[one]))

    def of(y: np.ndarray) -> np.ndarray:
        rest = y - found.mean
        half = 0.5 * np.square(rest[two] - rest[one])
        return np.bincount(bins, half) / np.bincount(bins)

    return centres, of


def _spread(fit: Fitted, found: Replicated) -> tuple[np.ndarray, Curve]:
    bins, centres = _binned(_times(fit, found))
    count = np.bincount(bins)

    def of(y: np.ndarray) -> np.ndarray:
        rest = y - found.mean
        mean = np.bincount(bins, rest) / count
        return np.sqrt(np.bincount(bins, np.square(rest - mean[bins])) / np.maximum(count - 1, 1))

    return centres, of


def _times(fit: Fitted, found: Replicated) -> np.ndarray:
    if found.time is None or fit.estimate.panel.several:
        raise ValueError(
            "the model has no time, so that distances in time are not known: time is what stands "
            "left of a bar, as in (time | id)"
        )
    return found.time


def _binned(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bin (N,) of every value, at most ten of about one size, and their means."""
    values = values.round(9)
    levels = np.unique(values)
    if len(levels) > BINS:
        ends = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
        codes = np.searchsorted(ends, values)
    else:
        codes = np.searchsorted(levels, values)
    codes = np.unique(codes, return_inverse=True)[1]
    return codes, np.bincount(codes, values) / np.bincount(codes)


KINDS: dict[str, Callable[[Fitted, Replicated], tuple[np.ndarray, Curve]]] = {
    "density": _density,
    "ecdf": _ecdf,
    "rootogram": _rootogram,
    "variogram": _variogram,
    "spread": _spread,
}


# -- calibration -----------------------------------------------------------------------------------


def calibration(
    fit: Fitted,
    newdata: Any = None,
    *,
    history: Any = None,
    outcome: Any = None,
    bins: int = 10,
    seed: int | None = None,
) -> pd.DataFrame:
    """Compare means of outcomes with their predictions, in groups of like predictions.

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        newdata: rows to predict. By default those of the fit, predicted over the population, with
            missing outcomes drawn from the model given those seen.
        history: past rows of the subjects of ``newdata``, given which they are predicted.
        outcome: what happened in the rows of ``newdata``, one number each.
        bins: groups of about one size, from the lowest to the highest prediction.
        seed: of missing outcomes; by default that of the fit.

    Returns:
        A row per group: ``predicted`` and ``observed`` (means), ``lower`` and ``upper`` (95 %
        limits of the observed mean, by the spread between outcomes) and ``n``.

    Raises:
        ValueError: newdata without outcome=; fewer than two groups.
    """
    if not isinstance(bins, int | np.integer) or bins < 2:
        raise ValueError(f"bins is a number of groups, at least 2, not {bins!r}")
    if newdata is None:
        found = _replicated(fit, 1, fit.call.seed if seed is None else seed)
        predicted, observed = found.mean, found.y
    elif outcome is None:
        raise ValueError("calibration() of newdata needs outcome=, what happened in its rows")
    else:
        predicted = predict(fit, newdata, history=history)["fit"].to_numpy()
        observed = np.asarray(outcome, dtype=float)
        if observed.shape != predicted.shape:
            raise ValueError(f"outcome= has {observed.size} values, newdata {len(predicted)} rows")
    known = np.isfinite(predicted) & np.isfinite(observed)
    predicted, observed = predicted[known], observed[known]
    rank = np.argsort(np.argsort(predicted, kind="stable"), kind="stable")
    group = rank * min(bins, len(rank)) // max(len(rank), 1)
    count = np.bincount(group)
    means = [np.bincount(group, values) / count for values in (predicted, observed)]
    square = np.bincount(group, np.square(observed - means[1][group]))
    error = np.sqrt(square / np.maximum(count - 1, 1) / count)
    table = {
        "predicted": means[0],
        "observed": means[1],
        "lower": means[1] - 1.959964 * error,
        "upper": means[1] + 1.959964 * error,
        "n": count,
    }
    worst = float(np.abs(means[1] - means[0]).max())
    return ResultTable(table, title=f"Calibration: largest difference {worst:.3g}")
