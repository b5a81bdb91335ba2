"""Compound symmetry: `cs(0 + visit | id)`, `cs(1 + x | id)`, one correlation between all columns.

    D_jk = sd_j sd_k rho,   rho in (-1 / (q - 1), 1),

with one standard deviation where `hom=TRUE`. The same as lme4 2.0 and, with a standard deviation
per column, glmmTMB have it; glmmTMB writes `homcs` for one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dgmm.families.links import Link, between
from dgmm.formula import Syntax
from dgmm.latent.structures.correlated import Correlated

__all__ = ["CompoundSymmetry"]


class CompoundSymmetry(Correlated):
    """R = (1 - rho) I + rho 1 1'."""

    name = "cs"
    syntax = Syntax({"hom": "flag"})
    far = 12.0
    first = 0.0  # the middle of the range of rho
    others = (-2.0, 2.0)
    ends = (
        "the standardised effects of a level sum to zero",
        "the effects of a level are multiples of one",
    )

    @property
    def link(self) -> Link:
        return between(-1 / (self.dim - 1), 1.0)

    def typical(self, R: Tensor) -> Tensor:
        q, edge = self.dim, 1e-6
        mean = (R.sum() - R.diagonal().sum()) / (q * (q - 1))
        return mean.clamp(-1 / (q - 1) + edge, 1 - edge)[None]

    def root(self, rho: Tensor) -> Tensor:
        one = torch.eye(self.dim, dtype=rho.dtype, device=rho.device)
        return torch.linalg.cholesky(one + rho * (1 - one))
