"""Linear random effects: mu2 = T Lambda b, D = Lambda Lambda'."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dgmm.design import LatentBlock
from dgmm.latent.base import Latent
from dgmm.latent.columns import ByColumns
from dgmm.latent.covariance import Pattern, working_values
from dgmm.latent.records import Boundary, Component, Places, columns_of, placed
from dgmm.latent.structures import Structure
from dgmm.latent.structures import build as build_structure
from dgmm.networks import Weights
from dgmm.numerics.triangle import triangle

__all__ = ["Normal"]


@dataclass(frozen=True)
class Normal(ByColumns):
    """Lambda = frame L, L lower triangular, a function of the weights by its ``structure``."""

    label: str
    names: tuple[str, ...]
    frame: Tensor
    structure: Structure
    places: Places = ()

    name = "normal"
    by_columns = True

    @classmethod
    def build(cls, block: LatentBlock, unit: float) -> Normal:
        T = torch.from_numpy(block.columns.matrix)
        structure = build_structure(block.term, T.shape[1])
        frame = unit * math.sqrt(len(T)) * structure.frame(_padded(block.columns.triangle))
        if structure.free and bool((T[:, 0] == 1).all()):
            frame[0, 0] = unit  # without rounding: engines spare products with ones
        return cls(block.term.text, block.columns.names, frame, structure)

    @classmethod
    def across(cls, name: str, parts: Mapping[str, Latent]) -> Latent:
        sizes = [one.dim for one in parts.values()]
        names = tuple(f"{outcome}:{own}" for outcome, one in parts.items() for own in one.names)
        if len(parts) == 1:
            (alone,) = parts.values()
            return cls(alone.label, names, alone.frame, _structure_of(alone), placed(parts, sizes))
        for outcome, one in parts.items():
            if not one.by_columns or not _structure_of(one).free:
                raise ValueError(
                    f"{one.label} of `{outcome}` cannot be correlated with the other parts "
                    f"`{name}`: write (terms |{name}| group) without a word before the bar"
                )
        frame = torch.block_diag(*(one.frame for one in parts.values()))
        structure = replace(_structure_of(next(iter(parts.values()))), dim=sum(sizes))
        return cls(name, names, frame, structure, placed(parts, sizes))

    def alone(self, outcome: str) -> Latent:
        own = columns_of(self.places, outcome)
        if own == slice(None):
            return self
        structure = replace(self.structure, dim=own.stop - own.start)
        return Normal(self.label, self.names[own], self.frame[own, own], structure)

    @property
    def dim(self) -> int:  # type: ignore[override]
        """k, the number of columns of T."""
        return len(self.names)

    def layers(self) -> str:
        return ""

    # -- parameters --------------------------------------------------------------------------

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self.structure.shapes()

    def initial(self, generator: torch.Generator) -> Weights:
        return self.structure.initial()

    def starts(self, weights: Weights) -> tuple[Weights, ...]:
        return self.structure.starts(weights)

    def nearest(self, covariance: Tensor) -> Weights:
        half = torch.linalg.solve_triangular(self.frame, covariance, upper=True)
        return self.structure.nearest(
            torch.linalg.solve_triangular(self.frame, half.mT, upper=True)
        )

    def wider(self) -> Latent:
        return self if self.structure.free else replace(self, structure=self.structure.wider())

    def lifted(self, weights: Weights) -> Weights:
        return self.structure.lifted(weights)

    def times(self, weights: Weights, factor: Tensor) -> Weights:
        below = {name: weights[name] * factor for name in ("below",) if name in weights}
        return {"log_diagonal": weights["log_diagonal"] + factor.log(), **below}

    # -- mu2 ---------------------------------------------------------------------------------

    def loadings(self, weights: Weights) -> Tensor:
        return self.frame @ self.structure.factor(weights)

    # -- what is reported --------------------------------------------------------------------

    def components(self) -> tuple[Component, ...]:
        return self.structure.components(self.names)

    def reported(self, weights: Weights) -> Tensor:
        return self.structure.reported(weights, self.frame)

    def working_slopes(self, weights: Weights) -> Tensor | None:
        if not self.structure.free:
            return None
        pattern = Pattern.of([self])
        entries = pattern.of_theta({f"latent1.{name}": one for name, one in weights.items()})
        L = pattern.fill(entries.detach().numpy())
        return torch.from_numpy(working_values(pattern, L, self.frame.numpy())[1])

    @property
    def by_reported(self) -> bool:
        return not self.structure.free

    def from_reported(self, values: Tensor) -> Weights:
        return self.structure.from_reported(values, self.frame)

    def at_boundary(self, weights: Weights, floor: float) -> Boundary:
        return self.structure.at_boundary(weights, floor, self.frame, self.names)

    def blocks(self) -> tuple[tuple[int, ...], ...]:
        return self.structure.blocks()

    def holds(self, other: Latent) -> bool:
        return isinstance(other, Normal) and self.structure.holds(other.structure)

    @property
    def whole(self) -> bool:
        return not self.structure.apart

    def without(self, effect: int) -> tuple[Latent, tuple[int, ...]] | None:
        kept = tuple(j for j in range(self.dim) if j != effect)
        if not kept or self.whole:
            return None
        names = tuple(self.names[j] for j in kept)
        columns = torch.linalg.inv(self.frame)[:, list(kept)]  # of T, seen from those of T frame
        structure = replace(self.structure, dim=len(kept))
        frame = structure.frame(_triangle(columns))
        return replace(self, names=names, frame=frame, structure=structure), kept


def _structure_of(latent: Latent) -> Structure:
    found: Structure = latent.structure  # type: ignore[attr-defined]
    return found


def _triangle(T: Tensor) -> Tensor:
    """R (q, q) of T = QR, with rows of zeros where T has fewer than q."""
    return _padded(triangle(T.numpy()))


def _padded(R: np.ndarray) -> Tensor:
    return torch.nn.functional.pad(torch.from_numpy(R), (0, 0, 0, R.shape[1] - len(R)))
