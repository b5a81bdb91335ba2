"""Deep Markov model `dmm(time)`: z_t depends on z_{t-1} alone, the outcome on z_t alone.

    z_t = A z_{t-1} + B x_t + f(z_{t-1}, x_t) + exp{l + g(z_{t-1}, x_t)} e_t,
    mu2_t = c'z_t + d(z_t),

f, g and d networks, x_t the gap since the row before and the controls. Where the networks are
silent it is a linear Gaussian state space. After Krishnan, Shalit and Sontag (2017), AAAI; the
linear part stands in the place of their gate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import linear

from dgmm.formula import Syntax
from dgmm.latent.law import Law
from dgmm.latent.recursion import FLOOR, Recursion
from dgmm.networks import Dense, Weights
from dgmm.parameters import part

__all__ = ["DeepMarkov"]


@dataclass(frozen=True)
class DeepMarkov(Recursion):
    """The state is z of the step before."""

    name = "dmm"
    syntax = Syntax(
        options={
            "state": "count",
            "hidden": "count",
            "posterior": ("smooth", "filter"),
            "control": "terms",
        },
        neural=True,
        serial=True,
    )

    @classmethod
    def of(cls, options: Any, **given: Any) -> Self:
        size, hidden = options.get("state", 2), options.get("hidden", 32)
        return cls(size=size, hidden=hidden, **given)

    @property
    def state_size(self) -> int:
        return self.size

    @property
    def transition(self) -> Dense:
        """(z, x) -> f, g."""
        return Dense((self.size + self.width, self.hidden, 2 * self.size))

    @property
    def decoder(self) -> Dense:
        """z -> d."""
        return Dense((self.size, self.hidden, self.outcomes))

    def layers(self) -> str:
        return "; ".join("-".join(map(str, n.sizes)) for n in (self.transition, self.decoder))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        d = self.size
        return {
            "m1": (d,),
            "l1": (d,),
            "A": (d, d),
            "B": (d, self.width),
            "l": (d,),
            "c": (self.outcomes * d,),
            **{f"transition.{name}": s for name, s in self.transition.shapes().items()},
            **{f"decoder.{name}": s for name, s in self.decoder.shapes().items()},
        }

    def initial(self, generator: torch.Generator) -> Weights:
        d = self.size
        zero = torch.zeros(d, dtype=torch.float64)
        c = self.drawn_loadings(generator)
        transition = self.transition.initial(generator, last=0.1)
        decoder = self.decoder.initial(generator, last=0.1)
        return {
            "m1": zero,
            "l1": zero,
            "A": 0.8 * torch.eye(d, dtype=torch.float64),
            "B": torch.zeros(d, self.width, dtype=torch.float64),
            "l": zero - 0.5,  # sqrt(1 - 0.8^2) = e^-0.51
            "c": c,
            **{f"transition.{name}": w for name, w in transition.items()},
            **{f"decoder.{name}": w for name, w in decoder.items()},
        }

    def start(self, weights: Weights) -> Tensor:
        return torch.zeros(self.size, dtype=weights["A"].dtype)

    def prior(self, weights: Weights, state: Tensor, x: Tensor, first: bool) -> Law:
        moved = linear(x, weights["B"])
        if first:
            log_sd = weights["l1"].expand_as(moved)
            return Law(weights["m1"] + moved, log_sd.clamp(min=FLOOR))
        f, g = self.transition(part(weights, "transition."), torch.cat([state, x], dim=-1)).chunk(
            2, -1
        )
        mean = moved + linear(state, weights["A"]) + f
        return Law(mean, (weights["l"] + g).clamp(min=FLOOR))

    def emitted(self, weights: Weights, z: Tensor, state: Tensor, x: Tensor) -> Tensor:
        return self.loaded(weights, z) + self.decoder(part(weights, "decoder."), z)

    def advanced(
        self, weights: Weights, state: Tensor, z: Tensor, x: Tensor, r: Tensor, law: Law
    ) -> Tensor:
        return z
