"""Independent effects: `diag(0 + visit | id)`, `diag(0 + visit | id, hom=TRUE)` with one variance.

`(terms || id)` is `diag(terms | id)`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dgmm.families.links import LINKS
from dgmm.formula import Syntax
from dgmm.latent.records import BOUNDARY, Boundary, Component
from dgmm.latent.structures.base import LEAST, Structure, alone, common, silent
from dgmm.networks import Weights

__all__ = ["Diagonal"]


@dataclass(frozen=True)
class Diagonal(Structure):
    """D = diag(sd_1^2, ..., sd_q^2), or sd^2 I where ``hom``."""

    hom: bool = False

    name = "diag"
    syntax = Syntax({"hom": "flag"})

    @property
    def free(self) -> bool:
        return not self.hom

    def frame(self, R: Tensor) -> Tensor:
        return common(R) if self.hom else alone(R)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"log_diagonal": (1 if self.hom else self.dim,)}

    def initial(self) -> Weights:
        size = self.shapes()["log_diagonal"]
        return {"log_diagonal": torch.full(size, -0.7, dtype=torch.float64)}

    def factor(self, weights: Weights) -> Tensor:
        return torch.diag(weights["log_diagonal"].exp().expand(self.dim))

    def nearest(self, D: Tensor) -> Weights:
        variance = D.diagonal()
        variance = variance + 1e-10 * variance.max().clamp(min=1e-6)
        return {"log_diagonal": 0.5 * (variance.mean()[None] if self.hom else variance).log()}

    def wider(self) -> Structure:
        return replace(self, hom=False)

    def lifted(self, weights: Weights) -> Weights:
        return {"log_diagonal": weights["log_diagonal"].expand(self.dim)}

    def components(self, names: tuple[str, ...]) -> tuple[Component, ...]:
        own = (self.label,) if self.hom else names
        return tuple(Component("sd", (name,), LINKS["log"]) for name in own)

    def reported(self, weights: Weights, frame: Tensor) -> Tensor:
        sd = frame.diagonal()
        return (sd[:1] if self.hom else sd) * weights["log_diagonal"].exp()

    def from_reported(self, values: Tensor, frame: Tensor) -> Weights:
        scale = frame.diagonal()[: len(values)]
        return {"log_diagonal": (values / scale).clamp(min=LEAST).log()}

    def at_boundary(
        self, weights: Weights, floor: float, frame: Tensor, names: tuple[str, ...]
    ) -> Boundary:
        diagonal = weights["log_diagonal"].exp()
        zero = diagonal < max(BOUNDARY * float(diagonal.max()), floor)
        found = silent((self.label,) if self.hom else names, zero)
        return Boundary(tuple(found), {"log_diagonal": zero}, tuple(found.values()))

    def blocks(self) -> tuple[tuple[int, ...], ...]:
        return tuple((j,) for j in range(self.dim))

    def holds(self, other: Structure) -> bool:
        return isinstance(other, Diagonal) and (other.hom or not self.hom)
