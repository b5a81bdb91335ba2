"""Laplace's approximation beside one better evaluation at its maximum.

The difference of the log-likelihoods says how far comparisons of models may be off, the gradient g
of the better one how far its maximum is: sqrt(g' I^-1 g) standard errors by one scoring step.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from dgmm.families import Observations
from dgmm.likelihood.adaptive_engine import AdaptiveEngine
from dgmm.likelihood.answers import Compared
from dgmm.likelihood.base import Likelihood
from dgmm.likelihood.crossed_engine import CrossedEngine, Mode
from dgmm.likelihood.crossed_rows import density
from dgmm.likelihood.growth import RULE_TOLERANCE, moved
from dgmm.likelihood.laplace_curvature import curvature, is_curved
from dgmm.likelihood.nodes import freeze
from dgmm.likelihood.rules import Importance, Quadrature
from dgmm.numerics.ascent import whitening
from dgmm.parameters import Theta

__all__ = ["by_importance", "by_levels", "by_quadrature"]

REPLICATES = 4
"""Independent scrambles of the draws of a comparison."""

DRAWS = 2048
"""Draws of all levels together, antithetic, in a comparison of crossed factors."""

ENTRIES = 8_000_000
"""Most rows times draws in it: beyond, there are fewer draws."""

ROWS = 200_000
"""Rows times draws at once: what a cache holds."""


def by_quadrature(engine: AdaptiveEngine, x: np.ndarray, value: float) -> Compared:
    """Laplace's ``value`` at x beside adaptive quadrature there, as long as it takes."""
    k = engine.model.k
    rule, closed = Quadrature.default(k), is_curved(engine)
    better = moved(engine, rule)
    while True:  # the gradient of the rule that a longer one confirms
        found, longer = better.value_and_gradient(x, scores=not closed), rule.longer(k)
        if longer is None:
            now = found.value
            break
        rule, last, better = longer, better, moved(engine, longer)
        now = better.value(x)
        if abs(now - found.value) <= RULE_TOLERANCE:
            better = last
            break
    if found.scores is None:
        information = curvature(engine, x).expected
    else:
        information = better.information(x, found.scores)
    back = whitening(information, better.least_information(x, np.diag(information)))
    away = float(np.linalg.norm(back.T @ found.gradient))
    words = f"quadrature with {' x '.join([str(rule.points)] * k)} points"
    return Compared("quadrature", words, now - value, 0.0, away)


def by_importance(likelihood: Likelihood, theta: Theta, value: float) -> Compared:
    """Laplace's ``value`` at theta beside importance sampling there."""
    rule, totals = Importance(likelihood.integration.polish_draws), []
    for number in range(REPLICATES):
        rng = np.random.default_rng([likelihood.integration.seed, 83, number])
        frozen = freeze(likelihood.model, theta, likelihood.observed, rule, rng)
        totals.append(frozen.value(theta))
    error = float(np.std(totals, ddof=1)) / math.sqrt(REPLICATES)
    difference = float(np.mean(totals)) - value
    return Compared("importance", "importance sampling", difference, error, math.nan)


def by_levels(engine: CrossedEngine, theta: Theta, seed: int) -> Compared:
    """Laplace's value with several grouping factors beside importance sampling of all levels.

    With u drawn from N(mode, P^-1), l less its approximation is the log of the mean of

        exp{ h(u) - h(mode) + (u - mode)'P(u - mode) / 2 },   h(u) = sum_i f_i - |u|^2 / 2.
    """
    mode, rows = engine.at(theta), engine.t.shape[1]
    pairs = max(8, min(DRAWS, ENTRIES // rows) // 2)
    generator = torch.Generator().manual_seed(seed)
    step = max(1, ROWS // rows)
    parts = [
        _surplus(engine, mode, theta, min(step, pairs - first), generator)
        for first in range(0, pairs, step)
    ]
    surplus = np.concatenate(parts, axis=1)
    top = float(surplus.max())
    weight = np.exp(surplus - top).mean(0)  # of a pair: antithetic draws are one
    mean = float(weight.mean())
    error = float(weight.std(ddof=1)) / mean / math.sqrt(pairs)
    return Compared("", "importance sampling", math.log(mean) + top, error, math.nan)


def _surplus(
    engine: CrossedEngine, mode: Mode, theta: Theta, pairs: int, generator: torch.Generator
) -> np.ndarray:
    """Log weights (2, pairs) of antithetic draws of u from N(mode, P^-1), 0 were u normal."""
    a, extra = engine.loadings(theta).T @ engine.t, theta["extra"].detach()[:, None, None]
    data = Observations(*(column[:, None] for column in engine.data))
    noise = torch.randn(len(mode.u), pairs, generator=generator, dtype=torch.float64).numpy()
    step = mode.factor.root(noise)
    shift = torch.from_numpy(engine.of_rows(a, step))
    out = 0.5 * (noise**2).sum(0) - 0.5 * (step**2).sum(0) - float(mode.rows.f.sum())
    return np.stack(
        [
            out
            + density(engine.model.family, data, eta, extra).sum(0).numpy()
            - sign * (mode.u @ step)
            for sign, eta in (
                (1.0, mode.eta[:, None] + shift),
                (-1.0, mode.eta[:, None] - shift),
            )
        ]
    )
