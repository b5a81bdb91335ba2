"""Local linear trend `llt(time)`: a level whose slope is a random walk, in continuous time.

    d level = slope dt + s_1 dW_1,   d slope = s_2 dW_2,

    z = (level, slope),   A(g) = [1 g; 0 1],
    Q(g) = s_1^2 [g 0; 0 0] + s_2^2 [g^3/3 g^2/2; g^2/2 g]

At equal steps it has the A of the trend of structural time series; there slopes change between
steps only, here all the time, which adds the terms in g^2 and g^3 (Harvey 1989, Forecasting,
Structural Time Series Models and the Kalman Filter, section 9.2).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dgmm.latent.path import Moves
from dgmm.latent.wandering import Wandering
from dgmm.networks import Weights

__all__ = ["LocalTrend"]


class LocalTrend(Wandering):
    """Standard deviations of what moves the level and of what moves the slope, per unit of time.

    Without the first the path is an integrated random walk, the prior of a cubic smoothing spline.
    """

    name = "llt"
    parts = ("level", "slope")
    orders = (0.5, 1.5)

    def flat_states(self) -> Tensor:
        """The flat prior is one of the level and of the slope per unit of time."""
        return torch.diag(torch.tensor([1.0, self.time_unit], dtype=torch.float64))[:, : self.flat]

    def state_names(self) -> tuple[tuple[str, float], ...]:
        level, slope = self.effects()
        return (level, 1.0), (slope, 1 / self.time_unit)

    def moves(self, weights: Weights, gap: Tensor) -> Moves:
        level, slope = self.deviations(weights)
        g = gap / self.time_unit
        one, zero = torch.ones_like(g), torch.zeros_like(g)
        bend = (slope * g).square()
        steady = level.square()
        first = (g * (steady + bend / 3)).sqrt()
        across = slope.square() * g.square() / 2 / first
        second = slope * (g * (steady + bend / 12) / (steady + bend / 3)).sqrt()
        return Moves(_two(one, g, zero, one), _two(first, zero, across, second))


def _two(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """[a b; c d], (..., 2, 2)."""
    return torch.stack([torch.stack([a, b], -1), torch.stack([c, d], -1)], -2)
