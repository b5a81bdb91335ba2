"""Factors: few effects that the random parts of several outcomes share, linear in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dgmm.design import LatentBlock
from dgmm.latent.base import Latent
from dgmm.latent.columns import ByColumns
from dgmm.latent.records import Places, placed
from dgmm.networks import Weights

__all__ = ["Factors"]

LEAST = 1e-4
"""Variance of a factor where a search begins, relative to the mean of all: at zero it is
stationary."""


@dataclass(frozen=True)
class Factors(ByColumns):
    """mu2 = T Lambda b with k effects for q columns, D = Lambda Lambda' of rank k <= q.

    Lambda = frame L, L (q, k) zero above its diagonal: b is known up to a rotation, and this is one
    of the Lambda with the same D.

    References:
        Lawley and Maxwell (1971), Factor Analysis as a Statistical Method, section 2.3.
    """

    label: str
    names: tuple[str, ...]
    frame: Tensor  # (q, q)
    dim: int
    places: Places

    name = "factors"

    @classmethod
    def of(cls, name: str, dim: int, parts: Mapping[str, Latent]) -> Factors:
        """``dim`` factors of the random parts of several outcomes."""
        sizes = [len(one.names) for one in parts.values()]
        return cls(
            name,
            tuple(f"{outcome}:{own}" for outcome, one in parts.items() for own in one.names),
            torch.block_diag(*(one.frame for one in parts.values())),
            min(dim, sum(sizes)),
            placed(parts, sizes),
        )

    @classmethod
    def build(cls, block: LatentBlock, unit: float) -> Factors:
        raise ValueError("factors belong to several outcomes in mv()")

    def layers(self) -> str:
        return ""

    # -- parameters --------------------------------------------------------------------------

    @property
    def _entries(self) -> tuple[Tensor, Tensor]:
        """Rows and columns of the free entries of L."""
        row, column = torch.tril_indices(len(self.names), self.dim)
        return row, column

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"entries": (len(self._entries[0]),)}

    def initial(self, generator: torch.Generator) -> Weights:
        return {"entries": 0.5 * torch.eye(len(self.names), self.dim).double()[self._entries]}

    def nearest(self, covariance: Tensor) -> Weights:
        D = torch.linalg.solve(self.frame, torch.linalg.solve(self.frame, covariance).mT)
        value, vector = torch.linalg.eigh(0.5 * (D + D.mT))
        top = torch.argsort(value, descending=True)[: self.dim]
        floor = LEAST * float(value.clamp(min=0).mean())
        L = vector[:, top] * value[top].clamp(min=floor).sqrt()
        turn = torch.linalg.qr(L[: self.dim].mT)[0]  # L turn is zero above the diagonal
        return {"entries": (L @ turn)[self._entries]}

    def times(self, weights: Weights, factor: Tensor) -> Weights:
        return {"entries": factor * weights["entries"]}

    # -- mu2 ---------------------------------------------------------------------------------

    def loadings(self, weights: Weights) -> Tensor:
        L = torch.zeros(len(self.names), self.dim, dtype=torch.float64)
        return self.frame @ L.index_put(self._entries, weights["entries"])
