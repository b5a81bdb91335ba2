"""Importance sampling of posteriors with several modes and bent ridges.

    q(b) = 1/K sum_k t_5(b; m_k, P_k^-1),   w_m ~ p(y, b_m) / q(b_m),

P_k = I + J'J / sigma^2 at m_k. The centres m_k are first the modes that Newton finds from K starts,
then K draws of the round before, so that the proposal follows the posterior; rounds go on while a
subject has few effective draws. Draws are quasi-random, an equal number from every component.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgmm.model import Model
from dgmm.numerics.quadrature import log_t, sobol_normal, sobol_t
from dgmm.panel import Block, Panel
from dgmm.parameters import Theta
from dgmm.posterior.modes import Anchor, find_modes

__all__ = ["CENTRES", "Draws", "mixture_quantile", "sample_posterior"]

CENTRES = 16  # K
SEARCH = 256  # prior draws of which a start of Newton is the likeliest
NEWTON_STEPS = 15  # a proposal needs no better mode
ROUNDS, MOST_ROUNDS = 2, 5
ENOUGH = 0.04  # effective share of the draws, of every subject, that ends the rounds
FREEDOM = 5.0


class Draws(NamedTuple):
    """b | y of some subjects and what the draws say about log p(y)."""

    b: Tensor  # (M, n, k)
    log_weight: Tensor  # (M, n), their weights add up to one
    log_likelihood: Tensor  # (n,)
    effective: Tensor  # (n,) effective number of draws, 1 / sum of squared weights


def sample_posterior(
    model: Model,
    theta: Theta,
    panel: Panel,
    subjects: Tensor,
    draws: int,
    rng: np.random.Generator,
) -> Draws:
    """Weighted draws of p(b_i | y_i), ``draws`` per subject, a multiple of ``CENTRES``."""
    block, wide = panel.block(subjects), panel.block(subjects.repeat(CENTRES))
    starts = _starts(model, theta, block).reshape(-1, model.k)
    modes = find_modes(model, theta, wide, starts, iterations=NEWTON_STEPS)
    found = _weighted(model, theta, block, modes, draws, rng)
    for number in range(1, MOST_ROUNDS):
        if number >= ROUNDS and bool((found.effective > draws * ENOUGH).all()):
            break
        centres = find_modes(model, theta, wide, _resampled(found, rng), iterations=0)
        found = _weighted(model, theta, block, centres, draws, rng)
    return found


def _starts(model: Model, theta: Theta, block: Block) -> Tensor:
    """Zero, and the likeliest of each group of prior draws, (K, n, k)."""
    n = len(block.subjects)
    starts = [torch.zeros(n, model.k, dtype=torch.float64)]
    for group in sobol_normal(model.k, SEARCH * CENTRES, seed=61).chunk(CENTRES)[1:]:
        height = model.log_joint(theta, group[:, None].expand(-1, n, -1), block)
        starts.append(group[height.argmax(0)])
    return torch.stack(starts)


def _weighted(
    model: Model,
    theta: Theta,
    block: Block,
    centres: Anchor,
    draws: int,
    rng: np.random.Generator,
) -> Draws:
    """Draws of the mixture around the centres (K n of them) with their weights."""
    n, k = len(block.subjects), model.k
    e = sobol_t(CENTRES * n, k, draws // CENTRES, rng, FREEDOM).e
    b = centres.mode + torch.einsum("nab,mnb->mna", centres.root, e)
    b = b.reshape(-1, n, k)
    inverse = torch.linalg.solve_triangular(
        centres.root, torch.eye(k, dtype=b.dtype).expand_as(centres.root), upper=True
    )
    parts = zip(
        centres.mode.reshape(CENTRES, n, k),
        inverse.reshape(CENTRES, n, k, k),
        centres.log_det_root.reshape(CENTRES, n),
        strict=True,
    )
    density = [
        log_t(torch.einsum("nab,mnb->mna", to_e, b - mode), FREEDOM) - log_det
        for mode, to_e, log_det in parts
    ]
    log_q = torch.logsumexp(torch.stack(density), 0) - math.log(CENTRES)
    terms = model.log_joint(theta, b, block) - log_q
    total = torch.logsumexp(terms, 0)
    log_weight = terms - total
    effective = torch.exp(-torch.logsumexp(2 * log_weight, 0))
    return Draws(b, log_weight, total - math.log(len(b)), effective)


def _resampled(draws: Draws, rng: np.random.Generator) -> Tensor:
    """K draws per subject with equal weights, by systematic resampling, (K n, k)."""
    share = draws.log_weight.exp().cumsum(0).T.contiguous()
    n, last = len(share), len(draws.b) - 1
    uniform = (np.arange(CENTRES) + rng.uniform(size=(n, 1))) / CENTRES
    place = torch.searchsorted(share, torch.from_numpy(uniform)).clamp(max=last)
    return draws.b[place.T, torch.arange(n)].reshape(CENTRES * n, -1)


def mixture_quantile(level: float, mean: Tensor, weight: Tensor, sigma: float) -> Tensor:
    """q with sum_m w_m Phi((q - mean_m) / sigma) = level, by bisection: mean, weight (M, N)."""
    low = mean.amin(0) - 6 * sigma
    high = mean.amax(0) + 6 * sigma
    while bool((high - low > 1e-6 * sigma).any()):
        middle = 0.5 * (low + high)
        below = (weight * torch.special.ndtr((middle - mean) / sigma)).sum(0) < level
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return 0.5 * (low + high)
