"""A random intercept whose standard deviation follows covariates of its subject.

    mu2_ij = s_i b_i,   log s_i = log sd + (z_i - zbar)'gamma,   b_i ~ N(0, 1)

It is what `(1 | cre(id, ~ x, scale=~ z))` adds to a predictor: z_i are means over the rows of i,
and the mean of the random intercept given x stands among the fixed columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from dgmm.design import LatentBlock
from dgmm.families.links import LINKS
from dgmm.latent.base import Latent
from dgmm.latent.records import Boundary, Component
from dgmm.networks import Weights
from dgmm.panel import LatentRows

__all__ = ["Scaled"]


@dataclass(frozen=True)
class Scaled(Latent):
    """b_i ~ N(0, s_i^2) in units of the linear predictor."""

    label: str
    names: tuple[str, ...]
    frame: Tensor  # (1, 1) the unit
    scales: tuple[str, ...]  # columns of z
    centre: Tensor  # (r,) zbar, their means over the rows of the fit
    spread: Tensor  # (r,) their standard deviations

    name = "cre"
    left_of_bar: ClassVar[bool] = False
    linear = True
    dim: ClassVar[int] = 1  # type: ignore[misc]

    @classmethod
    def build(cls, block: LatentBlock, unit: float) -> Scaled:
        text = block.term.text
        if block.columns.names != ("(Intercept)",):
            raise ValueError(
                f"{text}: scale= is for a random intercept alone, (1 | cre(...)); write slopes as "
                "a term of their own, as in (0 + time | id)"
            )
        z, names = (block.basis or block.columns).matrix, (block.basis or block.columns).names
        still = [n for n, one in zip(names, np.ptp(z, axis=0), strict=True) if one == 0]
        if still:
            raise ValueError(
                f"{text}: scale= needs covariates that differ between the subjects, which "
                f"{' and '.join(f'`{name}`' for name in still)} does not"
            )
        centre, spread = (torch.from_numpy(one) for one in (z.mean(0), z.std(0)))
        frame = torch.tensor([[unit]], dtype=torch.float64)
        return cls(text, block.columns.names, frame, names, centre, spread)

    def layers(self) -> str:
        return ""

    def remark(self, weights: Weights) -> str:
        at = ", ".join(f"{n} {float(c):.3g}" for n, c in zip(self.scales, self.centre, strict=True))
        return (
            f"Std.Dev. of the random intercept is that at {at}; scale() is the change of its "
            "logarithm per unit."
        )

    # -- parameters --------------------------------------------------------------------------

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"log_sd": (1,), "gamma": (len(self.scales),)}

    def initial(self, generator: torch.Generator) -> Weights:
        return self._flat(torch.full((1,), -0.7, dtype=torch.float64))

    def from_covariance(
        self, covariance: Tensor, gram: Tensor, generator: torch.Generator
    ) -> Weights:
        return self._flat((covariance[0].sqrt() / self.frame[0]).clamp(min=1e-4).log())

    def _flat(self, log_sd: Tensor) -> Weights:
        """The weights of one standard deviation for all."""
        return {"log_sd": log_sd, "gamma": torch.zeros(len(self.scales), dtype=torch.float64)}

    def times(self, weights: Weights, factor: Tensor) -> Weights:
        return {**weights, "log_sd": weights["log_sd"] + factor.log()}

    # -- mu2 ---------------------------------------------------------------------------------

    def prepare(self, weights: Weights) -> Weights:
        return {}

    def deviation(self, weights: Weights, rows: LatentRows) -> Tensor:
        """s_i of every row, (n, J)."""
        z = (rows.basis - self.centre) / self.spread
        return self.frame[0, 0] * torch.exp(weights["log_sd"] + z @ weights["gamma"])

    def effect(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        return b * self.deviation(weights, rows)

    def jacobian(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        return self.deviation(weights, rows)[..., None]

    def loadings(self, weights: Weights) -> Tensor:
        return self.frame * weights["log_sd"].exp()

    # -- what is reported --------------------------------------------------------------------

    def components(self) -> tuple[Component, ...]:
        scales = (Component(f"scale({n})", self.names, LINKS["identity"]) for n in self.scales)
        return Component("sd", self.names, LINKS["log"]), *scales

    def reported(self, weights: Weights) -> Tensor:
        sd = self.frame[0] * weights["log_sd"].exp()
        return torch.cat([sd, weights["gamma"] / self.spread])

    @property
    def by_reported(self) -> bool:
        return True

    def from_reported(self, values: Tensor) -> Weights:
        return {"log_sd": (values[:1] / self.frame[0]).log(), "gamma": values[1:] * self.spread}

    def at_boundary(self, weights: Weights, floor: float) -> Boundary:
        zero = weights["log_sd"].exp() < floor
        held = {"log_sd": zero, "gamma": zero.expand(len(self.scales))}
        if not bool(zero):
            return Boundary((), held)
        return Boundary(self.names, held, (f"the variance of {self.label} is estimated as zero",))

    def holds(self, other: Latent) -> bool:
        if not isinstance(other, Scaled):
            return not other.by_reported
        return set(other.scales) <= set(self.scales)

    @property
    def whole(self) -> bool:
        return True
