"""Convergence of chains and leave-one-out scores, by the array functions of arviz-stats.

It is imported here alone, when chains are asked about. Arrays are (chains, draws).

Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021), Bayesian Analysis 16, 667-718; Vehtari,
Simpson, Gelman, Yao and Gabry (2024), J. Machine Learning Research 25(72).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = ["Diagnosed", "LeftOut", "diagnosed", "hdi", "left_out", "pareto_k"]

TAIL = (0.05, 0.95)
"""The quantiles whose effective sample size is that of the tails."""


class Diagnosed(NamedTuple):
    """What is known of the mean and the tails of one scalar."""

    r_hat: float
    ess_bulk: float
    ess_tail: float
    mcse: float  # Monte Carlo standard error of the mean


def _arrays() -> Any:
    from arviz_stats.base import array_stats

    return array_stats


def diagnosed(draws: np.ndarray) -> Diagnosed:
    """R-hat, effective sample sizes and the error of the mean of draws (C, S).

    All missing where the draws are fewer than four or do not move.
    """
    if draws.shape[1] < 4 or float(np.ptp(draws)) == 0 or not np.isfinite(draws).all():
        return Diagnosed(np.nan, np.nan, np.nan, np.nan)
    arrays = _arrays()
    return Diagnosed(
        float(arrays.rhat(draws)),
        float(arrays.ess(draws)),
        float(arrays.ess(draws, method="tail", prob=TAIL)),
        float(arrays.mcse(draws)),
    )


def hdi(draws: np.ndarray, level: float) -> tuple[float, float]:
    """The shortest interval with a share ``level`` of the draws (B,)."""
    low, high = _arrays().hdi(draws, level)
    return float(low), float(high)


class LeftOut(NamedTuple):
    """Pareto-smoothed importance sampling of log densities."""

    elpd: np.ndarray  # (N,) log p(y_i | y_-i)
    k: np.ndarray  # (N,) shape of the tail of its weights
    p: np.ndarray  # (N,) log density of all draws less elpd


def left_out(log_density: np.ndarray, efficiency: float = 1.0) -> LeftOut:
    """log p(y_i | the others) from log p(y_i | theta), (B, N); efficiency: ESS over B."""
    elpd, k, p = _arrays().loo(log_density.T[:, None], r_eff=efficiency)
    return LeftOut(np.asarray(elpd), np.asarray(k), np.asarray(p))


def pareto_k(log_weights: np.ndarray) -> np.ndarray:
    """The shape of the tail of importance weights (M, n), (n,): above 0.7 they are not reliable."""
    return np.asarray(_arrays().psislw(log_weights.T)[1])
