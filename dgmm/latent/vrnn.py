"""Variational recurrent network `vrnn(time)`: what came before, outcomes too, is read by a GRU.

    z_t = A z_{t-1} + f(h_{t-1}, x_t) + exp{l + g(h_{t-1}, x_t)} e_t     (prior="rnn")
    z_t = e_t                                                            (prior="iid")
    mu2_t = c'z_t + d(z_t, h_{t-1}, x_t),   h_t = GRU(h_{t-1}; r_t, z_t, x_t),

f, g and d networks, r_t the outcome as its residual from the fixed part, x_t the controls. Without
latent variables, latent=0, it is a recurrent network. After Chung, Kastner, Dinh, Goel, Courville
and Bengio (2015), NeurIPS; with the linear terms, and the networks silent, a linear Gaussian state
space is among them.

With memory="outcomes" the GRU reads x_t and r_t alone, and A is zero. r_t is divided by 1 + v_t,
v_t its variance: as far as an outcome by itself tells of a standard normal deviation in eta, since
the residual of a rare event is large and says little. h_t is then known from what was seen, latent
variables of different steps are independent given the outcomes, and

    p(y_1, ..., y_T) = prod_t integral p(y_t | z_t, h_{t-1}) p(z_t | h_{t-1}) dz_t,

a mixture at every step, whose posterior needs no outcome to come: posterior="filter" loses nothing.
Where all outcomes were seen its steps are calculated at once. The form is that of Boulanger-
Lewandowski, Bengio and Vincent (2012), ICML, with latent variables that are normal.

dropout=p: while it learns, the memory is told a random share 1 - p of the residuals, divided by
1 - p, and zero for the others, and law, decoder and q a share 1 - p of h alike; networks with many
weights then learn less of few subjects by heart. Srivastava, Hinton, Krizhevsky, Sutskever and
Salakhutdinov (2014), JMLR 15.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import linear

from dgmm.formula import Syntax
from dgmm.latent.law import Law
from dgmm.latent.recursion import CALM, FLOOR, Recursion
from dgmm.latent.steps import Steps
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
            "memory": ("all", "outcomes"),
            "dropout": "share",
            "posterior": ("smooth", "filter"),
            "control": "terms",
        },
        neural=True,
        serial=True,
    )
    form: str = "rnn"
    remembers: str = "all"  # what the memory reads: the latent variables too, or "outcomes"
    dropout: float = 0.0
    learns: bool = False  # now: dropout is for learning alone

    @classmethod
    def of(cls, options: Any, **given: Any) -> Self:
        form = options.get("prior", "rnn")
        size, hidden = options.get("latent", 2), options.get("hidden", 32)
        found = cls(size=size, hidden=hidden, form=form, **given)
        memory, dropout = options.get("memory", "all"), options.get("dropout", 0.0)
        return replace(found, remembers=memory, dropout=dropout)

    @property
    def calm(self) -> bool:
        return self.remembers == "outcomes"

    @property
    def kept(self) -> int:
        """Latent variables of a step that the next ones are told."""
        return self.size if self.remembers == "all" else 0

    @property
    def state_size(self) -> int:
        return self.hidden + self.kept

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
        return Gated(self.outcomes + self.kept + self.width, self.hidden)

    def layers(self) -> str:
        sizes = [self.decoder.sizes, (self.memory.inputs, self.hidden)]
        if self.form == "rnn" and self.size:
            sizes.insert(0, self.law.sizes)
        return "; ".join("-".join(map(str, one)) for one in sizes)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        d = self.size
        moving: dict[str, tuple[int, ...]] = {}
        if self.form == "rnn" and d:
            moving = {"A": (d, d)} if self.kept else {}
            moving |= {"l": (d,)}
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
            if self.kept:
                found |= {"A": torch.zeros(d, d, dtype=torch.float64)}
            found |= {"l": torch.zeros(d, dtype=torch.float64)}
            found |= {f"law.{name}": w for name, w in law.items()}
        decoder = self.decoder.initial(generator, last=0.5)
        found |= {f"decoder.{name}": w for name, w in decoder.items()}
        found |= {f"memory.{n}": w for n, w in self.memory.initial(generator).items()}
        return {n: CALM * w for n, w in found.items()} if self.calm else found

    def start(self, weights: Weights) -> Tensor:
        return torch.cat([weights["h0"], weights["h0"].new_zeros(self.kept)])

    def prior(self, weights: Weights, state: Tensor, x: Tensor, first: bool) -> Law:
        h, z = state[..., : self.hidden], state[..., self.hidden :]
        if self.form == "iid" or not self.size:
            nothing = h.new_zeros(*h.shape[:-1], self.size)
            return Law(nothing, nothing)
        f, g = self.law(part(weights, "law."), torch.cat([h, x], dim=-1)).chunk(2, -1)
        mean = linear(z, weights["A"]) + f if self.kept else f
        return Law(mean, (weights["l"] + g).clamp(min=FLOOR))

    def emitted(self, weights: Weights, z: Tensor, state: Tensor, x: Tensor) -> Tensor:
        decoder, h = part(weights, "decoder."), state[..., : self.hidden]
        if self.kept:
            entering = torch.cat([z, h, x], dim=-1)
            return self.loaded(weights, z) + self.decoder(decoder, entering)
        # h may be the one of all draws
        found = self.decoder.of_parts(decoder, z, torch.cat([h, x], dim=-1))
        return self.loaded(weights, z) + found

    def advanced(
        self, weights: Weights, state: Tensor, z: Tensor, x: Tensor, r: Tensor, law: Law
    ) -> Tensor:
        h, memory = state[..., : self.hidden], part(weights, "memory.")
        if not self.kept:
            drive = self.memory.drive(memory, torch.cat([r, x], dim=-1))
            return self.memory.step(memory, drive, h)
        drive = self.memory.drive(memory, torch.cat([r, z, x], dim=-1))
        return torch.cat([self.memory.step(memory, drive, h), z], dim=-1)

    def learning(self) -> VariationalRecurrent:
        return replace(self, learns=self.dropout > 0)

    def thinned(self, steps: Steps, unseen: Tensor) -> Steps:
        if not self.learns:
            return steps
        seed = int(unseen.flatten()[0].float().view(torch.int32))  # the bits of a random number
        generator = torch.Generator().manual_seed(seed)
        shape, like = steps.residual.shape[:2], steps.residual

        def factors(size: int) -> Tensor:
            drawn = torch.rand(*shape, size, generator=generator, dtype=torch.float64, device="cpu")
            return (drawn >= self.dropout).to(like) / (1 - self.dropout)

        told = steps.residual * factors(self.outcomes)
        shown = torch.cat([factors(self.hidden), like.new_ones(*shape, self.kept)], dim=-1)
        return steps._replace(residual=told, shown=shown)

    def foresees(self, steps: Steps) -> bool:
        return not self.kept and bool((steps.seen | ~steps.real[..., None]).all())

    def foreseen(self, weights: Weights, steps: Steps) -> Tensor | None:
        if not self.foresees(steps):
            return None
        memory = part(weights, "memory.")
        drive = self.memory.drive(memory, torch.cat([steps.residual, steps.x], dim=-1))
        state = self.start(weights).expand(len(drive), self.hidden)
        found = [state]
        for one in drive.unbind(1)[:-1]:
            found.append(self.memory.step(memory, one, found[-1]))
        return torch.stack(found, dim=1)
