"""The tails of many sets of importance weights at once: the shape k of a generalised Pareto.

The m largest of the M weights of a subject, a fifth of them or 3 M^(1/2), less the next one are
taken for draws with distribution function 1 - (1 + k x / sigma)^(-1 / k). k is estimated by the
posterior mean of Zhang and Stephens, under the weak prior that ten draws with k = 1/2 stand for.
Weights have 1 / k moments: above k = 0.7 a sum of them is not reliable however many there are.

arviz-stats has the estimate for one set at a time, in Python; 100,000 subjects need theirs at once.

References:
    Zhang and Stephens (2009), Technometrics 51, 316-325; Vehtari, Simpson, Gelman, Yao and Gabry
    (2024), J. Machine Learning Research 25(72).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["UNRELIABLE", "tail_shape"]

UNRELIABLE = 0.7
"""k above which sums of weights are not reliable."""

PRIOR_SCALE, PRIOR_DRAWS, PRIOR_SHAPE = 3.0, 10.0, 0.5

SMALL = 225
"""Draws up to which the tail is a fifth of them."""

FEWEST = 5
"""Draws of a tail below which nothing is said of it."""


def tail_shape(log_weight: Tensor) -> Tensor:
    """k of every column of log weights (M, n), (n,).

    Infinite where a tail has fewer than five draws, and minus infinity where the weights of a tail
    are all the same.
    """
    M = len(log_weight)
    m = M // 5 if M <= SMALL else int(3 * math.sqrt(M))
    if m < FEWEST:
        return torch.full_like(log_weight[0], torch.inf)
    top = log_weight.topk(m + 1, dim=0).values.flip(0)  # ascending
    top = top - top[-1]
    x = (top[1:].exp() - top[0].exp()).T  # (n, m), ascending
    flat = ~(x[:, -1] > 0) | ~torch.isfinite(x).all(1)
    x = torch.where(flat[:, None], torch.linspace(0.1, 1, m, dtype=x.dtype), x)
    k = _shape(x)
    return torch.where(flat, torch.where(torch.isnan(top).any(0), torch.inf, -torch.inf), k)


def _shape(x: Tensor) -> Tensor:
    """k of ascending exceedances (n, m)."""
    m = x.shape[1]
    points = 30 + int(m**0.5)
    place = torch.arange(1, points + 1, dtype=x.dtype)
    quarter = x[:, int(m / 4 + 0.5) - 1].clamp(min=torch.finfo(x.dtype).tiny)
    b = (1 - (points / (place - 0.5)).sqrt()) / (PRIOR_SCALE * quarter[:, None])
    b = b + 1 / x[:, -1:]
    k = torch.log1p(-b[..., None] * x[:, None]).mean(-1)  # (n, points)
    height = m * ((-b / k).log() - k - 1)
    weight = torch.softmax(torch.nan_to_num(height, nan=-torch.inf), -1)
    middle = (b * weight).sum(-1, keepdim=True)
    found = torch.log1p(-middle * x).mean(-1)
    return (m * found + PRIOR_DRAWS * PRIOR_SHAPE) / (m + PRIOR_DRAWS)
