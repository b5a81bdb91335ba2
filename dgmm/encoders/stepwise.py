"""q of a recursion, one step after the other: q(e_t | s_{t-1}, x_t, g_t) = N(m_t, diag v_t).

s_{t-1} is the state of the model itself, which the draws so far have made, so that q of a path has
the dependence in time of the prior. g_t holds what q knows of the outcomes beyond the state:

    smooth   those of this step and all later ones, read backwards by a GRU and by leaky sums,
             a_t = lambda a_{t+1} + V (r_t, seen_t, x_t), which alone give the exact g_t of a linear
             Gaussian model far from the last step
    filter   the outcome of this step: q(z_t | y_1..y_t, z_1..z_{t-1})

m_t and log v_t are linear in all of it plus a network, the linear map of the first step its own. A
recursion that is told no outcome of a step keeps its prior there under "filter". Random effects
beside the recursion have a normal q whose moments are read off g_1.

The true posterior is a product of p(z_t | z_1..z_{t-1}, y_1..y_T): only the first form can be
tight. The second is a restriction of q and no assumption about the model; it buys predictions and
particle bounds that go forwards in time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import linear

from dgmm.encoders.steps import Path, Sequential, recursion_of
from dgmm.latent import Law, Steps
from dgmm.model import Model
from dgmm.networks import Dense, Gated, Weights
from dgmm.panel import Block
from dgmm.parameters import Theta, part

__all__ = ["Stepwise"]

INFORMED = 2.0
"""Size of the means of q, in prior standard deviations, at its start."""

LEAKS = 8
"""Leaky sums of the outcomes to come."""


@dataclass(frozen=True)
class Stepwise(Sequential):
    """Sizes: d latent variables, S numbers of a state, c inputs, other effects, K outcomes."""

    size: int
    state: int
    inputs: int
    beside: int
    hidden: int
    smooth: bool
    outcomes: int = 1

    @classmethod
    def of(cls, model: Model) -> Stepwise:
        """The encoder of a model with one recursion."""
        one = recursion_of(model)
        smooth = one.posterior == "smooth"
        sizes = one.size, one.state_size, one.width, model.k - one.dim, one.hidden
        return cls(*sizes, smooth, one.outcomes)

    @property
    def reader(self) -> Gated:
        """(r, seen, x) backwards -> what is still to come."""
        return Gated(2 * self.outcomes + self.inputs, self.hidden)

    @property
    def head(self) -> Dense:
        """(state, mean and log sd of z, x, g) -> m, log v."""
        return Dense((self._entering, self.hidden, 2 * self.size))

    @property
    def _read(self) -> int:
        return self.hidden + LEAKS if self.smooth else 0

    @property
    def _entering(self) -> int:
        known = 2 * self.outcomes + self._read
        return self.state + 2 * self.size + self.inputs + known

    @property
    def reads(self) -> bool:
        """Whether there is a reader."""
        return self.smooth or self.beside > 0

    def shapes(self) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = dict.fromkeys(
            ("linear", "first"), (2 * self.size, self._entering)
        )
        found |= {f"head.{name}": s for name, s in self.head.shapes().items()}
        if self.reads:
            found |= {"leak": (LEAKS,), "into": (LEAKS, 1 + 2 * self.outcomes + self.inputs)}
            found |= {f"reader.{name}": s for name, s in self.reader.shapes().items()}
        if self.beside:
            found["beside"] = (2 * self.beside, self.hidden + LEAKS)
        return found

    def initial(self, generator: torch.Generator) -> Weights:
        """Draws that tell of the outcomes: from the prior itself a decoder learns to do without."""
        shapes = self.shapes()
        slope = torch.randn(shapes["linear"], generator=generator, dtype=torch.float64)
        slope *= INFORMED * self._entering**-0.5
        slope[self.size :] = 0.0
        slope[:, : self.state + 2 * self.size] = 0.0  # from state to state draws would grow
        found = {"linear": slope, "first": slope.clone()}
        head = self.head.initial(generator, last=0.5)
        head["a2"][self.size :] = -1.0
        found |= {f"head.{name}": w for name, w in head.items()}
        if self.reads:
            shape = shapes["into"]
            found["leak"] = torch.linspace(-2, 2, LEAKS, dtype=torch.float64)
            found["into"] = 0.5 * torch.randn(shape, generator=generator, dtype=torch.float64)
            found |= {f"reader.{n}": w for n, w in self.reader.initial(generator).items()}
        if self.beside:
            found["beside"] = torch.zeros(shapes["beside"], dtype=torch.float64)
        return found

    def posterior(self, phi: Weights, model: Model, ready: Theta, block: Block) -> Path:
        return _Told(phi, model, ready, block, self)

    def read(self, phi: Weights, steps: Steps) -> Tensor:
        """g of every step, (n, G, hidden + leaks): what is known from there on."""
        there = steps.real[..., None]
        known = torch.cat([steps.residual, steps.seen.to(steps.x), steps.x], dim=-1)
        drive = self.reader.drive(part(phi, "reader."), known)
        one = torch.ones_like(known[..., :1])
        added = linear(torch.cat([known, one], dim=-1), phi["into"])
        leak = torch.sigmoid(phi["leak"])
        state = drive.new_zeros(len(drive), self.hidden)
        total, found = drive.new_zeros(len(drive), LEAKS), []
        for t in reversed(range(steps.number)):
            moved = self.reader.step(part(phi, "reader."), drive[:, t], state)
            state = torch.where(there[:, t], moved, state)
            total = torch.where(there[:, t], leak * total + (1 - leak) * added[:, t], total)
            found.append(torch.cat([state, total], dim=-1))
        return torch.stack(found[::-1], dim=1)


@dataclass(frozen=True)
class _Told(Path):
    encoder: Stepwise

    @cached_property
    def reading(self) -> Tensor | None:
        """g of every step; None where nothing is read."""
        return self.encoder.read(self.phi, self.steps) if self.encoder.reads else None

    @cached_property
    def entering(self) -> Tensor:
        """What q sees of every step beside the state, (n, G, .)."""
        steps = self.steps
        known = [steps.x, steps.residual, steps.seen.to(steps.x)]
        if self.encoder.smooth:
            assert self.reading is not None
            known.append(self.reading)
        return torch.cat(known, dim=-1)

    def step(self, t: int, state: Tensor, law: Law) -> Law:
        slope = self.phi["linear"] if t else self.phi["first"]  # the law of z is another one there
        entering = self._entering(state, law, self.entering[:, t])
        return self._law(linear(entering, slope), entering, self.told[:, t])

    def every(self, states: Tensor, laws: Law) -> Law:
        entering = self._entering(states, laws, self.entering)
        first = linear(entering[:, :1], self.phi["first"])
        later = linear(entering[:, 1:], self.phi["linear"])
        return self._law(torch.cat([first, later], dim=1), entering, self.told)

    @cached_property
    def told(self) -> Tensor:
        """Steps at which q may differ from the prior, (n, G)."""
        return self.steps.real if self.encoder.smooth else self.steps.seen.any(-1)

    def _entering(self, state: Tensor, law: Law, seen: Tensor) -> Tensor:
        return torch.cat([state, law.mean, law.log_sd, seen.expand(*state.shape[:-1], -1)], dim=-1)

    def _law(self, direct: Tensor, entering: Tensor, told: Tensor) -> Law:
        encoder = self.encoder
        change = direct + encoder.head(part(self.phi, "head."), entering)
        m, spread = torch.where(told[..., None], change, 0.0).split([encoder.size] * 2, -1)
        return Law(m, spread.clamp(-7, 2))

    def others(self) -> Law:
        if not self.encoder.beside:
            nothing = self.entering.new_zeros(len(self.entering), 0)
            return Law(nothing, nothing)
        assert self.reading is not None
        m, log_sd = linear(self.reading[:, 0], self.phi["beside"]).chunk(2, -1)
        return Law(m, log_sd.clamp(-7, 2))
