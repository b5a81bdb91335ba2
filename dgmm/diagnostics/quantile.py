"""Randomised quantile residuals: the place of an outcome in the distribution it is a draw from.

    u = P(Y < y) + V P(Y = y),   V uniform;   conditional: given b;   unconditional: b ~ N(0, I)

Exact where the family knows its distribution function, else the rank of y among simulated outcomes.

References:
    Dunn and Smyth (1996), J. Computational and Graphical Statistics 5, 236-244.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dgmm.diagnostics.draws import filled
from dgmm.estimate import Estimate
from dgmm.families import Extra, Family, Observations
from dgmm.model import Model, course
from dgmm.model.simulation import check_population, simulate_outcomes
from dgmm.numerics.quadrature import sobol_normal
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.prediction.moments import normal_effects, population_rule, population_spread

__all__ = [
    "Shares",
    "conditional_shares",
    "randomised",
    "ranked",
    "unconditional_shares",
]

SIMULATED = 1000
"""Outcomes among which the rank of one is taken where there is no distribution function."""

POPULATION = 512
"""Values of b over which the distribution of a network is averaged."""

Shares = tuple[Tensor, Tensor]
"""P(Y < y) and P(Y <= y), (N,) each."""


def randomised(shares: Shares, generator: torch.Generator) -> Tensor:
    """u (N,), inside of (0, 1)."""
    below, up_to = shares
    v = torch.rand(below.shape, generator=generator, dtype=torch.float64)
    tiny = torch.finfo(torch.float64).eps
    return (below + v * (up_to - below)).clamp(tiny, 1 - tiny)


@torch.no_grad()
def conditional_shares(
    family: Family, data: Observations, eta: Tensor, extra: Extra, generator: torch.Generator
) -> Shares:
    """P(Y < y | b) and P(Y <= y | b)."""
    known = family.distribution(data, eta, extra)
    if known is not None:
        return known
    many = eta.expand(SIMULATED, len(eta))
    return ranked(family.simulate(many, data, extra, generator), data.y)


def ranked(simulated: Tensor, y: Tensor) -> Shares:
    """Ranks of y (N,) among simulated outcomes (S, N), as shares: uniform if y is one of them."""
    size = len(simulated) + 1
    below = (simulated < y).sum(0).double()
    same = (simulated == y).sum(0).double() + 1
    return below / size, (below + same) / size


@torch.no_grad()
def unconditional_shares(
    done: Estimate, theta: Theta, y: Tensor, generator: torch.Generator
) -> Shares:
    """P(Y < y) and P(Y <= y) over the population, at every planned row."""
    model, panel = done.model.sized(done.panel), done.panel
    check_population(model)
    data = filled(panel)._replace(y=y)
    known = None
    if not panel.several and not model.serial:
        target = panel.with_data(data)
        known = (_normal if normal_effects(model) else _averaged)(model, theta, target)
    if known is not None:
        return known
    drawn = [simulate_outcomes(model, theta, panel, generator) for _ in range(SIMULATED)]
    return ranked(torch.stack(drawn), y)


def _normal(model: Model, theta: Theta, panel: Panel) -> Shares | None:
    """By quadrature over eta, which is normal."""
    ready, rows = model.prepare(theta), panel.rows
    spread = population_spread(model, ready, panel)
    e, weight = population_rule(model, spread)
    centre = model.mu1(ready, rows) + course(model, ready, panel)
    extra = model.extra(ready, rows)
    found = model.family.distribution(rows.data, centre + e * spread, extra)
    if found is None:
        return None
    below, up_to = ((weight * one).sum(0) for one in found)
    return below, up_to


def _averaged(model: Model, theta: Theta, panel: Panel) -> Shares | None:
    """By an average over b of a low-discrepancy sequence."""
    ready = model.prepare(theta)
    b = sobol_normal(model.k, POPULATION, seed=31)[:, None, :]
    below, up_to = torch.zeros(2, panel.n_rows, dtype=torch.float64)
    for block in panel.blocks(cells=3_000_000 // POPULATION):
        wide = b.expand(POPULATION, len(block.subjects), model.k)
        given = model.at(ready, wide, block)
        eta = model.mu1(ready, block.rows) + model.mu2(given, wide, block.rows)
        extra = model.extra(ready, block.rows, wide)
        found = model.family.distribution(block.rows.data, eta, extra)
        if found is None:
            return None
        at = block.index[block.mask]
        below[at], up_to[at] = (one.mean(0)[block.mask] for one in found)
    return below, up_to
