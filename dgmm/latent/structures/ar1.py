"""Autoregressive covariance of the columns: `ar1(0 + visit | id)`, rho from column to column.

    D_jk = sd_j sd_k rho^|j - k|,   rho in (-1, 1),

columns in the order of the levels of `visit`, one step from each to the next, with one standard
deviation unless `hom=FALSE`, as lme4 2.0 and glmmTMB have it (glmmTMB writes `hetar1` for several).
For many visits, or visits that are numbers, `(ar1(visit) | id)` is the path: its cost grows with
the rows and it knows how far apart visits are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from dgmm.families.links import ATANH, Link
from dgmm.formula import LatentTerm, Syntax
from dgmm.latent.structures.correlated import Correlated

__all__ = ["Autoregression"]


@dataclass(frozen=True)
class Autoregression(Correlated):
    """R_jk = rho^|j - k|."""

    hom: bool = True

    name = "ar1"
    syntax = Syntax({"hom": "flag"})
    far = 6.0
    others = (-0.5, 1.5)
    ends = (
        "the effects of a level change their sign from column to column and nothing else",
        "the effects of a level are multiples of one",
    )

    @classmethod
    def build(cls, term: LatentTerm, dim: int) -> Self:
        if term.terms.startswith("1 "):
            visit = term.terms.removeprefix("1 + ")
            raise ValueError(
                f"{term.text}: ar1() steps from column to column, and with an intercept they "
                f"are contrasts of levels in no order; write ar1(0 + {visit} | {term.group})"
            )
        return super().build(term, dim)

    @property
    def link(self) -> Link:
        return ATANH

    def typical(self, R: Tensor) -> Tensor:
        return R.diagonal(1).mean().clamp(-1 + 1e-6, 1 - 1e-6)[None]

    def root(self, rho: Tensor) -> Tensor:
        step = torch.arange(self.dim, dtype=rho.dtype, device=rho.device)
        lag = (step[:, None] - step).clamp(min=0)
        fresh = torch.cat([torch.ones_like(rho), (1 - rho**2).sqrt().expand(self.dim - 1)])
        return torch.tril(torch.pow(rho, lag)) * fresh
