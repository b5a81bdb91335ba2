"""Ornstein-Uhlenbeck path `ou(time)`: correlated exponentially in continuous time."""

from __future__ import annotations

import torch
from torch import Tensor

from dgmm.families.links import LINKS
from dgmm.latent.path import LEAST_SIZE
from dgmm.latent.stationary import Stationary
from dgmm.networks import Weights

__all__ = ["OrnsteinUhlenbeck"]


class OrnsteinUhlenbeck(Stationary):
    """cov{z(s), z(t)} = sd^2 exp(-|t - s| / range), at any times.

    The covariance of nlme's corExp() with that range, of glmmTMB's ou() with rate 1 / range.
    """

    name = "ou"
    raw = "log_range"
    reported_as = "range"
    link = LINKS["log"]
    first = -0.7
    others = ((-2.5, -0.7), (1.0, -0.7), (-4.5, 1.5))  # the last one leaves no noise
    far = 7.0  # a range of 1000 times the unit of time
    ends = (
        "states at different times are independent, as residuals are",
        "the state of a subject does not change over time, as a random intercept",
    )

    def correlation(self, weights: Weights, gap: Tensor) -> Tensor:
        return torch.exp(-self._relative(weights, gap))

    def innovation(self, weights: Weights, gap: Tensor) -> Tensor:
        return -torch.expm1(-2 * self._relative(weights, gap))

    def _relative(self, weights: Weights, gap: Tensor) -> Tensor:
        """gap / range."""
        return gap / self.time_unit * torch.exp(-weights["log_range"])

    @property
    def unit(self) -> float:
        return self.time_unit

    def from_reported(self, values: Tensor) -> Weights:
        least = torch.tensor([0.0, LEAST_SIZE * self.time_unit], dtype=torch.float64)
        return super().from_reported(values.maximum(least))

    def natural(self, weights: Weights) -> Tensor:
        return self.time_unit * weights["log_range"].exp()
