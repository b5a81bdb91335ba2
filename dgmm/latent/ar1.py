"""Autoregressive path `ar1(visit)`: correlation rho over one visit, gaps in visits allowed."""

from __future__ import annotations

import torch
from torch import Tensor

from dgmm.design import LatentBlock
from dgmm.families.links import ATANH
from dgmm.latent.path import Path, Visits, rows_of_visits
from dgmm.latent.stationary import Stationary
from dgmm.networks import Weights
from dgmm.panel import LatentRows

__all__ = ["Autoregressive"]


class Autoregressive(Stationary):
    """cov(z_s, z_t) = sd^2 rho^|t - s| at whole numbers s and t, rho in (-1, 1)."""

    name = "ar1"
    raw = "atanh_rho"
    reported_as = "rho"
    link = ATANH
    first = 0.5
    others = ((-0.5, -0.7), (1.5, -0.7))
    far = 4.0  # rho of 0.9993, which takes 1000 visits to fall to a half
    ends = (
        "the state of a subject changes its sign from visit to visit and nothing else",
        "the state of a subject does not change over time, as a random intercept",
    )

    @classmethod
    def check(cls, block: LatentBlock, visits: Visits) -> None:
        rows_of_visits(block, visits)

    def sized(self, rows: LatentRows, longest: int) -> Path:
        broken = rows.T[rows.T.frac() != 0]
        if len(broken):
            raise ValueError(f"{self.label}: visits are whole numbers, and {broken[0]:g} is not")
        return super().sized(rows, longest)

    def correlation(self, weights: Weights, gap: Tensor) -> Tensor:
        return torch.pow(self.natural(weights), gap)

    def natural(self, weights: Weights) -> Tensor:
        return torch.tanh(weights["atanh_rho"])
