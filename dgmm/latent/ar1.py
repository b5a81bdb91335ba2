"""Autoregressive path `ar1(visit)`: correlation rho over one visit, gaps in visits allowed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dgmm.design import LatentBlock
from dgmm.families.links import ATANH
from dgmm.latent.path import Path, Visits
from dgmm.networks import Weights
from dgmm.panel import LatentRows

__all__ = ["Autoregressive"]


class Autoregressive(Path):
    """cov(z_s, z_t) = sd^2 rho^|t - s| at whole numbers s and t, rho in (-1, 1)."""

    name = "ar1"
    raw = "atanh_rho"
    reported_as = "rho"
    link = ATANH
    first = 0.5
    others = (-0.5, 1.5)
    far = 4.0  # rho of 0.9993, which takes 1000 visits to fall to a half
    ends = (
        "the state of a subject changes its sign from visit to visit and nothing else",
        "the state of a subject does not change over time, as a random intercept",
    )

    @classmethod
    def check(cls, block: LatentBlock, visits: Visits) -> None:
        text, (time, code) = block.term.text, visits[:2]
        broken = np.flatnonzero(time != np.round(time))
        if len(broken):
            raise ValueError(
                f"{text}: visits are whole numbers, and {time[broken[0]]:g} is not; for times of "
                f"any kind use ou({block.columns.names[0]})"
            )
        again = np.flatnonzero((np.diff(time) == 0) & (np.diff(code) == 0))
        if len(again):
            group = block.grouping.levels[code[again[0]]]
            raise ValueError(
                f"{text}: every visit of a subject has one row, and `{block.grouping.name}` "
                f"{str(group)!r} has several at visit {time[again[0]]:g}"
            )

    def sized(self, rows: LatentRows, longest: int) -> Path:
        broken = rows.T[rows.T.frac() != 0]
        if len(broken):
            raise ValueError(f"{self.label}: visits are whole numbers, and {broken[0]:g} is not")
        return super().sized(rows, longest)

    def correlation(self, weights: Weights, gap: Tensor) -> Tensor:
        return torch.pow(self.natural(weights), gap)

    def natural(self, weights: Weights) -> Tensor:
        return torch.tanh(weights["atanh_rho"])
