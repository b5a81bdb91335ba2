"""Random walk `rw(time)`: Brownian motion, whose increments are independent of where it is."""

from __future__ import annotations

import torch
from torch import Tensor

from dgmm.latent.path import Moves
from dgmm.latent.wandering import Wandering
from dgmm.networks import Weights

__all__ = ["RandomWalk"]


class RandomWalk(Wandering):
    """var{z(t) - z(s)} = sd^2 |t - s|, at any times; sd is that of a step over one unit of time.

    With noise of the outcome the local level model of structural time series.
    """

    name = "rw"
    parts = ("sd",)
    orders = (0.5,)

    def moves(self, weights: Weights, gap: Tensor) -> Moves:
        B = self.deviations(weights) * (gap / self.time_unit).sqrt()
        return Moves(torch.ones_like(gap)[..., None, None], B[..., None, None])
