"""The density of the outcomes of a subject given their sum, in which no level of it is left.

    Poisson, log      multinomial:  prod_j exp(eta_j y_j) / {sum_j exp(eta_j)}^S
    Bernoulli, logit  prod_j exp(eta_j y_j) / sum_{d: sum d = S} prod_j exp(eta_j d_j)

S = sum_j y_j is sufficient for a level that is added to all eta_j, so both are free of it; what
does not depend on eta is left out. Rasch (1960); Chamberlain (1980), Review of Economic Studies 47,
225-238; Hausman, Hall and Griliches (1984), Econometrica 52, 909-938.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["binary_given_sum", "counts_given_sum"]

NONE = -1e30
"""log 0 with derivatives."""


def counts_given_sum(y: Tensor, eta: Tensor, mask: Tensor) -> Tensor:
    """Of counts: y, eta and mask (n, J) -> (n,)."""
    y, used = torch.where(mask, y, 0.0), torch.where(mask, eta, NONE)
    return (y * torch.where(mask, eta, 0.0)).sum(-1) - y.sum(-1) * used.logsumexp(-1)


def binary_given_sum(y: Tensor, eta: Tensor, mask: Tensor) -> Tensor:
    """Of zeros and ones: y, eta and mask (n, J) -> (n,).

    The sum over all d is the elementary symmetric function of order S of exp(eta), by recursion.
    """
    y = torch.where(mask, y, 0.0)
    n, J = y.shape
    start = torch.full((n, J + 1), NONE, dtype=eta.dtype)
    start[:, 0] = 0.0
    order = start
    for j in range(J):
        with_one = torch.cat([torch.full_like(order[:, :1], NONE), order[:, :-1]], dim=1)
        longer = torch.stack([order, with_one + eta[:, j, None]]).logsumexp(0)
        order = torch.where(mask[:, j, None], longer, order)
    total = order.gather(1, y.sum(-1).long()[:, None])[:, 0]
    return (y * torch.where(mask, eta, 0.0)).sum(-1) - total
