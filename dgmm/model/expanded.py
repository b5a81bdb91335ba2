"""log p(y | b) of an outcome to second order in b, by its linear predictor."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dgmm.families import Extra, Family
from dgmm.panel import Block

__all__ = ["Expanded"]


class Expanded(NamedTuple):
    """An outcome at some b."""

    family: Family
    block: Block
    J: Tensor  # d eta / d b, (..., n, J, k)
    eta: Tensor  # (..., n, J)
    extra: Extra

    def slope(self) -> Tensor:
        """J' d log p / d eta, (..., n, k)."""
        score = self.family.score(self.block.rows.data, self.eta, self.extra)
        score = torch.where(self.block.mask, score, 0.0)
        return (score[..., None, :] @ self.J)[..., 0, :]

    def precision(self) -> Tensor:
        """J'W J, (..., n, k, k)."""
        W = self.family.information(self.block.rows.data, self.eta, self.extra)
        return self.J.mT @ (torch.where(self.block.mask, W, 0.0)[..., None] * self.J)
