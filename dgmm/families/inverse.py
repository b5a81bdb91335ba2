"""The predictor at which an increasing mean takes a value."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["solve_increasing"]

FARTHEST = 1e3
"""Bracket of the predictor where nothing better is known."""

HALVINGS = 80


def solve_increasing(
    function: Callable[[Tensor], Tensor],
    slope: Callable[[Tensor], Tensor],
    value: Tensor,
    lowest: float = -FARTHEST,
    highest: float = FARTHEST,
) -> Tensor:
    """eta with function(eta) = value, elementwise, by bisection of (lowest, highest).

    One step of Newton follows, which leaves eta where it is and gives it the derivatives of the
    implicit function in ``value`` and in what ``function`` depends on.
    """
    with torch.no_grad():
        low, high = torch.full_like(value, lowest), torch.full_like(value, highest)
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            below = function(middle) < value
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        eta = 0.5 * (low + high)
        rise = slope(eta)
    miss = (function(eta) - value) / rise.clamp(min=torch.finfo(value.dtype).tiny)
    return eta - torch.where(rise > 0, miss, 0.0)
