"""Paths without a stationary distribution: how they begin, and variances of what moves them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from dgmm.design import LatentBlock
from dgmm.families.links import LINKS
from dgmm.formula import Syntax
from dgmm.latent.path import LEAST_SIZE, Path, Visits, number
from dgmm.latent.records import Boundary, Component
from dgmm.networks import Weights

__all__ = ["Wandering"]


@dataclass(frozen=True)
class Wandering(Path):
    """Brownian motions, integrated or not: a standard deviation for each of them.

    ``start`` is "known" by default: zero at the first time of the data, so that the fixed intercept
    and (1 | id) keep their meaning, there, and new subjects have a distribution. "diffuse" leaves
    open where a subject begins: the path takes up its level and all that does not vary within it.
    """

    syntax = Syntax(options={"start": ("known", "diffuse")}, serial=True)

    parts: ClassVar[tuple[str, ...]]  # what moves, a working parameter log_<part> for each
    orders: ClassVar[tuple[float, ...]]  # the standard deviation is per time to this power

    @classmethod
    def of(cls, block: LatentBlock, visits: Visits, frame: Tensor) -> Self:
        start = block.term.options.get("start", "known")
        return cls._begun(block, visits, frame, visits.spread, start, len(cls.parts))

    @classmethod
    def takes_up(cls, block: LatentBlock) -> np.ndarray:
        time = block.columns.matrix[:, 0]
        diffuse = block.term.options.get("start") == "diffuse"
        return np.vander(time, len(cls.parts) if diffuse else 0, increasing=True)

    @property
    def lone_variance(self) -> bool:
        return len(self.parts) == 1 and not self.flat

    # -- parameters --------------------------------------------------------------------------

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {f"log_{one}": (1,) for one in self.parts}

    def initial(self, generator: torch.Generator) -> Weights:
        return {name: number(-1.0) for name in self.shapes()}

    def starts(self, weights: Weights) -> tuple[Weights, ...]:
        names = list(self.shapes())
        low = [{**weights, name: number(-4.0)} for name in names]
        return (weights, *low, {**weights, names[-1]: number(0.5)})

    def times(self, weights: Weights, factor: Tensor) -> Weights:
        return {name: value + factor.log() for name, value in weights.items()}

    def deviations(self, weights: Weights) -> Tensor:
        """Standard deviations of the parts over one unit of internal time, (m,)."""
        return self.scale * torch.cat([weights[name] for name in self.shapes()]).exp()

    # -- what is reported --------------------------------------------------------------------

    def effects(self) -> list[str]:
        """rw(time), or llt(time):level and llt(time):slope."""
        several = len(self.parts) > 1
        return [f"{self.effect_name}:{one}" if several else self.effect_name for one in self.parts]

    def components(self) -> tuple[Component, ...]:
        return tuple(Component("sd", (name,), LINKS["log"]) for name in self.effects())

    @property
    def _per(self) -> Tensor:
        """Deviations over one unit of internal time, in those over one of the user's, (m,)."""
        return torch.tensor([self.time_unit**order for order in self.orders], dtype=torch.float64)

    def reported(self, weights: Weights) -> Tensor:
        return self.deviations(weights) / self._per

    def sizes(self) -> Tensor:
        return self.scale / self._per

    @property
    def by_reported(self) -> bool:
        return True

    def from_reported(self, values: Tensor) -> Weights:
        logs = (values / self.sizes()).clamp(min=LEAST_SIZE).log()
        return {name: logs[k : k + 1] for k, name in enumerate(self.shapes())}

    def at_boundary(self, weights: Weights, floor: float) -> Boundary:
        held = {name: weights[name].exp() < floor for name in self.shapes()}
        zero = [name for name, at in zip(self.effects(), held.values(), strict=True) if bool(at)]
        reasons = tuple(f"the variance of `{name}` is estimated as zero" for name in zero)
        return Boundary(tuple(zero), held, reasons)
