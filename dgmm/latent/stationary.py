"""Stationary paths of one state: a standard deviation s and one parameter of the correlation.

z_1 = s e_1,   z_j = r(g_j) z_{j-1} + s sqrt{1 - r(g_j)^2} e_j,   r(g) r(h) = r(g + h)
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from dgmm.design import LatentBlock
from dgmm.families.links import LINKS, Link
from dgmm.latent.path import LEAST_SIZE, Moves, Path, Visits, number
from dgmm.latent.records import Boundary, Component
from dgmm.networks import Weights
from dgmm.panel import LatentRows

__all__ = ["Stationary"]

LEAST = 1e-30
"""Smallest innovation variance between two times, in units of s^2: its root has a derivative."""


LONG = 64
"""Rows of a subject up to which L b is one product, and beyond a step after the other."""


@dataclass(frozen=True)
class Stationary(Path):
    """cov{z(s), z(t)} = sd^2 r(|t - s|)."""

    raw: ClassVar[str]  # name of the working parameter of the correlation
    reported_as: ClassVar[str]
    link: ClassVar[Link]
    first: ClassVar[float]  # starting value of the working parameter
    others: ClassVar[tuple[tuple[float, float], ...]]  # further ones, with that of log_sd
    far: ClassVar[float]  # the working parameter beyond +- this is at an end, as the data see it
    ends: ClassVar[tuple[str, str]]  # what the states are at the lower and upper end of its range

    @classmethod
    def of(cls, block: LatentBlock, visits: Visits, frame: Tensor) -> Self:
        return cls._begun(block, visits, frame, visits.usual, "stationary", 1)

    @abstractmethod
    def correlation(self, weights: Weights, gap: Tensor) -> Tensor:
        """r at gaps of any shape, in the units of time."""

    def innovation(self, weights: Weights, gap: Tensor) -> Tensor:
        """1 - r(gap)^2."""
        return 1 - self.correlation(weights, gap).square()

    # -- parameters --------------------------------------------------------------------------

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"log_sd": (1,), self.raw: (1,)}

    def initial(self, generator: torch.Generator) -> Weights:
        return {"log_sd": number(-0.7), self.raw: number(self.first)}

    def starts(self, weights: Weights) -> tuple[Weights, ...]:
        others = [{"log_sd": number(sd), self.raw: number(value)} for value, sd in self.others]
        return (weights, *others)

    def times(self, weights: Weights, factor: Tensor) -> Weights:
        return {**weights, "log_sd": weights["log_sd"] + factor.log()}

    # -- mu2 ---------------------------------------------------------------------------------

    def moves(self, weights: Weights, gap: Tensor) -> Moves:
        inner = self.innovation(weights, gap).clamp(min=LEAST)
        A, B = self.correlation(weights, gap), self._sd(weights) * inner.sqrt()
        return Moves(A[..., None, None], B[..., None, None])

    def first_root(self, weights: Weights) -> Tensor:
        return self._sd(weights)

    def factor(self, weights: Weights, rows: LatentRows) -> Tensor:
        """L (n, J, J) with mu2 = L b: L_jm = s r(t_j - t_m) sqrt{1 - r(g_m)^2}, m <= j."""
        time = torch.cummax(rows.T[..., 0], dim=-1).values
        fresh = self._chain(weights, rows).B[..., 0, 0]
        between = (time[..., :, None] - time[..., None, :]).clamp(min=0)
        return torch.tril(self.correlation(weights, between)) * fresh[..., None, :]

    def effect(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        if rows.T.shape[-2] > LONG:
            return super().effect(weights, b, rows)
        used = b[..., : self._steps(rows)]
        return torch.einsum("njm,...nm->...nj", self.factor(weights, rows), used)

    def jacobian(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        unused = self.dim - self._steps(rows)
        return torch.nn.functional.pad(self.factor(weights, rows), (0, unused))

    def _sd(self, weights: Weights) -> Tensor:
        return self.scale * weights["log_sd"].exp()

    # -- what is reported --------------------------------------------------------------------

    def components(self) -> tuple[Component, ...]:
        own = (self.effect_name,)
        return Component("sd", own, LINKS["log"]), Component(self.reported_as, own, self.link)

    @abstractmethod
    def natural(self, weights: Weights) -> Tensor:
        """The reported parameter of the correlation, (1,)."""

    def reported(self, weights: Weights) -> Tensor:
        return torch.cat([self._sd(weights), self.natural(weights)])

    @property
    def unit(self) -> float:
        """A sensible size of the reported parameter of the correlation."""
        return 1.0

    def sizes(self) -> Tensor:
        return torch.cat([self.scale, number(self.unit)])

    @property
    def by_reported(self) -> bool:
        return True

    def from_reported(self, values: Tensor) -> Weights:
        sd, own = values[:1] / self.scale, values[1:] / self.unit
        return {"log_sd": sd.clamp(min=LEAST_SIZE).log(), self.raw: self.link.forward(own)}

    def at_boundary(self, weights: Weights, floor: float) -> Boundary:
        zero, at_end = weights["log_sd"].exp() < floor, weights[self.raw].abs() > self.far
        held, name = {"log_sd": zero, self.raw: zero | at_end}, self.effect_name
        if bool(zero):
            return Boundary((name,), held, (f"the variance of `{name}` is estimated as zero",))
        if not bool(at_end):
            return Boundary((), held)
        value, states = float(self.natural(weights)), self.ends[int(weights[self.raw] > 0)]
        return Boundary(
            (),
            held,
            (f"the {self.reported_as} of `{name}` has run to an end ({value:.3g}): {states}",),
        )
