"""Standard deviations, one or one per column, and one correlation: D = S R(rho) S."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from dgmm.families.links import LINKS, Link
from dgmm.formula import LatentTerm
from dgmm.latent.records import BOUNDARY, Boundary, Component
from dgmm.latent.structures.base import LEAST, Structure, alone, common, silent
from dgmm.latent.structures.diag import Diagonal
from dgmm.latent.structures.us import Unstructured
from dgmm.networks import Weights

__all__ = ["Correlated"]


@dataclass(frozen=True)
class Correlated(Structure):
    """L = S C with S = diag(exp(log_sd)) and R(rho) = C C'; rho is ``raw_rho`` on its link."""

    hom: bool = False

    far: ClassVar[float]  # raw_rho beyond +- this is at an end, as the data see it
    ends: ClassVar[tuple[str, str]]  # what the effects are at the lower and the upper end
    first: ClassVar[float] = 0.3
    others: ClassVar[tuple[float, ...]]  # further starting values of raw_rho

    @classmethod
    def build(cls, term: LatentTerm, dim: int) -> Self:
        if dim < 2:
            raise ValueError(
                f"{term.text}: a correlation needs two columns or more, and `{term.terms}` has "
                f"one; write (1 | {term.group}), or a factor as in {cls.name}(0 + visit | "
                f"{term.group})"
            )
        return super().build(term, dim)

    @abstractmethod
    def root(self, rho: Tensor) -> Tensor:
        """C (q, q), lower triangular, of rho (1,)."""

    @property
    @abstractmethod
    def link(self) -> Link:
        """From rho to raw_rho."""

    @abstractmethod
    def typical(self, R: Tensor) -> Tensor:
        """The rho of a correlation matrix that has it, (1,), near it for others."""

    def rho(self, weights: Weights) -> Tensor:
        """The correlation, (1,)."""
        return self.link.inverse(weights["raw_rho"].clamp(-2 * self.far, 2 * self.far))

    def frame(self, R: Tensor) -> Tensor:
        return common(R) if self.hom else alone(R)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"log_sd": (1 if self.hom else self.dim,), "raw_rho": (1,)}

    def initial(self) -> Weights:
        size = self.shapes()["log_sd"]
        return {
            "log_sd": torch.full(size, -0.7, dtype=torch.float64),
            "raw_rho": torch.tensor([self.first], dtype=torch.float64),
        }

    def starts(self, weights: Weights) -> tuple[Weights, ...]:
        others = (torch.tensor([value], dtype=torch.float64) for value in self.others)
        return (weights, *({**weights, "raw_rho": value} for value in others))

    def factor(self, weights: Weights) -> Tensor:
        sd = weights["log_sd"].exp().expand(self.dim)
        return sd[:, None] * self.root(self.rho(weights))

    def nearest(self, D: Tensor) -> Weights:
        variance = D.diagonal()
        variance = variance + 1e-10 * variance.max().clamp(min=1e-6)
        sd = variance.sqrt()
        rho = self.typical(D / sd[:, None] / sd)
        return {
            "log_sd": 0.5 * (variance.mean()[None] if self.hom else variance).log(),
            "raw_rho": self.link.forward(rho).clamp(-self.far, self.far),
        }

    def wider(self) -> Structure:
        return Unstructured(self.dim, self.label)

    def lifted(self, weights: Weights) -> Weights:
        L = self.factor(weights)
        row, column = torch.tril_indices(self.dim, self.dim, -1)
        return {"log_diagonal": L.diagonal().log(), "below": L[row, column]}

    # -- what is reported --------------------------------------------------------------------

    def components(self, names: tuple[str, ...]) -> tuple[Component, ...]:
        own = (self.label,) if self.hom else names
        deviations = (Component("sd", (name,), LINKS["log"]) for name in own)
        return (*deviations, Component("rho", (self.label,), self.link))

    def reported(self, weights: Weights, frame: Tensor) -> Tensor:
        scale = frame.diagonal()[: len(weights["log_sd"])]
        return torch.cat([scale * weights["log_sd"].exp(), self.rho(weights)])

    def from_reported(self, values: Tensor, frame: Tensor) -> Weights:
        scale = frame.diagonal()[: len(values) - 1]
        return {
            "log_sd": (values[:-1] / scale).clamp(min=LEAST).log(),
            "raw_rho": self.link.forward(values[-1:]),
        }

    def at_boundary(
        self, weights: Weights, floor: float, frame: Tensor, names: tuple[str, ...]
    ) -> Boundary:
        sd, raw = weights["log_sd"].exp(), weights["raw_rho"]
        zero, at_end = sd < max(BOUNDARY * float(sd.max()), floor), raw.abs() > self.far
        found = silent((self.label,) if self.hom else names, zero)
        none = int((~zero).expand(self.dim).sum()) < 2 if self.hom else int((~zero).sum()) < 2
        held = {"log_sd": zero, "raw_rho": at_end | none}
        reasons = tuple(found.values())
        if bool(at_end) and not none:
            value, what = float(self.rho(weights)), self.ends[int(raw > 0)]
            reasons = (*reasons, f"the rho of {self.label} has run to an end ({value:.3g}): {what}")
        return Boundary(tuple(found), held, reasons)

    def blocks(self) -> tuple[tuple[int, ...], ...]:
        return (tuple(range(self.dim)),)

    def holds(self, other: Structure) -> bool:
        if isinstance(other, Unstructured):
            return not self.hom and (other.dim == 1 or self.dim == 2)
        if not isinstance(other, (type(self), Diagonal)):
            return False
        return other.hom or not self.hom
