"""Variational recurrent network `vrnn(time)`: what came before, outcomes too, is read by a GRU.

    z_t = A z_{t-1} + f(h_{t-1}, x_t) + exp{l + g(h_{t-1}, x_t)} e_t     (prior="rnn")
    z_t = e_t                                                            (prior="iid")
    mu2_t = c'z_t + d(z_t, h_{t-1}, x_t),   h_t = GRU(h_{t-1}; r_t, z_t, x_t),

f, g and d networks, r_t the outcome as its residual from the fixed part, x_t the controls. Without
latent variables, latent=0, it is a recurrent network. After Chung, Kastner, Dinh, Goel, Courville
and Bengio (2015), NeurIPS; with the linear terms, and the networks silent, a linear Gaussian state
space is among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import linear

from dgmm.formula import Syntax
from dgmm.latent.recursion import FLOOR, Law, Recursion
from dgmm.networks import Dense, Gated, Weights
from dgmm.parameters import part

__all__ = ["VariationalRecurrent"]


@dataclass(frozen=True)
class VariationalRecurrent(Recursion):
    """The state is (h, z) of the step before."""

    name = "vrnn"
    reads = True
    on_grid = True
    syntax = Syntax(
        options={
            "latent": "size",
            "hidden": "count",
            "prior": ("rnn", "iid"),
            "posterior": ("smooth", "filter"),
            "control": "terms",
        },
        neural=True,
        serial=True,
    )
    form: str = "rnn"

    @classmethod
    def of(cls, options: Any, **given: Any) -> Self:
        form = options.get("prior", "rnn")
        size, hidden = options.get("latent", 2), options.get("hidden", 32)
        return cls(size=size, hidden=hidden, form=form, **given)

    @property
    def state_size(self) -> int:
        return self.hidden + self.size

    @property
    def law(self) -> Dense:
        """(h, x) -> f, g."""
        return Dense((self.hidden + self.width, self.hidden, 2 * self.size))

    @property
    def decoder(self) -> Dense:
        """(z, h, x) -> d."""
        return Dense((self.size + self.hidden + self.width, self.hidden, self.outcomes))

    @property
    def memory(self) -> Gated:
        """(r, z, x) and h -> h."""
        return Gated(self.outcomes + self.size + self.width, self.hidden)

    def layers(self) -> str:
        sizes = [self.decoder.sizes, (self.memory.inputs, self.hidden)]
        if self.form == "rnn" and self.size:
            sizes.insert(0, self.law.sizes)
        return "; ".join("-".join(map(str, one)) for one in sizes)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        d = self.size
        moving: dict[str, tuple[int, ...]] = {}
        if self.form == "rnn" and d:
            moving = {"A": (d, d), "l": (d,)}
            moving |= {f"law.{name}": s for name, s in self.law.shapes().items()}
        return {
            "h0": (self.hidden,),
            "c": (self.outcomes * d,),
            **moving,
            **{f"decoder.{name}": s for name, s in self.decoder.shapes().items()},
            **{f"memory.{name}": s for name, s in self.memory.shapes().items()},
        }

    def initial(self, generator: torch.Generator) -> Weights:
        d = self.size
        found = {
            "h0": torch.zeros(self.hidden, dtype=torch.float64),
            "c": self.drawn_loadings(generator),
        }
        if self.form == "rnn" and d:
            law = self.law.initial(generator, last=0.1)
            found |= {"A": torch.zeros(d, d, dtype=torch.float64)}
            found |= {"l": torch.zeros(d, dtype=torch.float64)}
            found |= {f"law.{name}": w for name, w in law.items()}
        decoder = self.decoder.initial(generator, last=0.5)
        found |= {f"decoder.{name}": w for name, w in decoder.items()}
        return found | {f"memory.{n}": w for n, w in self.memory.initial(generator).items()}

    def start(self, weights: Weights) -> Tensor:
        return torch.cat([weights["h0"], weights["h0"].new_zeros(self.size)])

    def prior(self, weights: Weights, state: Tensor, x: Tensor, first: bool) -> Law:
        h, z = state[..., : self.hidden], state[..., self.hidden :]
        if self.form == "iid" or not self.size:
            return Law(torch.zeros_like(z), torch.zeros_like(z))
        f, g = self.law(part(weights, "law."), torch.cat([h, x], dim=-1)).chunk(2, -1)
        return Law(linear(z, weights["A"]) + f, (weights["l"] + g).clamp(min=FLOOR))

    def emitted(self, weights: Weights, z: Tensor, state: Tensor, x: Tensor) -> Tensor:
        entering = torch.cat([z, state[..., : self.hidden], x], dim=-1)
        return self.loaded(weights, z) + self.decoder(part(weights, "decoder."), entering)

    def advanced(
        self, weights: Weights, state: Tensor, z: Tensor, x: Tensor, r: Tensor, law: Law
    ) -> Tensor:
        h, memory = state[..., : self.hidden], part(weights, "memory.")
        drive = self.memory.drive(memory, torch.cat([r, z, x], dim=-1))
        return torch.cat([self.memory.step(memory, drive, h), z], dim=-1)
