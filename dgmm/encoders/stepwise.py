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

from dgmm.encoders.base import Amortised, Approximation, Sampled
from dgmm.latent import Recursion, Steps
from dgmm.model import Model
from dgmm.networks import Dense, Gated, Weights
from dgmm.panel import Block
from dgmm.parameters import Theta, part

__all__ = ["Path", "Stepwise"]

LEAKS = 8
"""Leaky sums of the outcomes to come."""


@dataclass(frozen=True)
class Stepwise(Amortised):
    """Sizes: d latent variables, S numbers of a state, c inputs, other random effects."""

    size: int
    state: int
    inputs: int
    beside: int
    hidden: int
    smooth: bool

    @classmethod
    def of(cls, model: Model) -> Stepwise:
        """The encoder of a model with one recursion."""
        one = model.latents[term_of(model)]
        assert isinstance(one, Recursion)
        smooth = one.posterior == "smooth"
        return cls(one.size, one.state_size, one.width, model.k - one.dim, one.hidden, smooth)

    @property
    def reader(self) -> Gated:
        """(r, seen, x) backwards -> what is still to come."""
        return Gated(2 + self.inputs, self.hidden)

    @property
    def head(self) -> Dense:
        """(state, mean and log sd of z, x, g) -> m, log v."""
        return Dense((self._entering, self.hidden, 2 * self.size))

    @property
    def _read(self) -> int:
        return self.hidden + LEAKS if self.smooth else 0

    @property
    def _entering(self) -> int:
        return self.state + 2 * self.size + self.inputs + 2 + self._read

    @property
    def _reads(self) -> bool:
        return self.smooth or self.beside > 0

    def shapes(self) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = dict.fromkeys(
            ("linear", "first"), (2 * self.size, self._entering)
        )
        found |= {f"head.{name}": s for name, s in self.head.shapes().items()}
        if self._reads:
            found |= {"leak": (LEAKS,), "into": (LEAKS, 3 + self.inputs)}
            found |= {f"reader.{name}": s for name, s in self.reader.shapes().items()}
        if self.beside:
            found["beside"] = (2 * self.beside, self.hidden + LEAKS)
        return found

    def initial(self, generator: torch.Generator) -> Weights:
        """q is the prior, but for a little noise."""
        shapes = self.shapes()
        found = {n: torch.zeros(shapes[n], dtype=torch.float64) for n in ("linear", "first")}
        head = self.head.initial(generator, last=0.05)
        found |= {f"head.{name}": w for name, w in head.items()}
        if self._reads:
            shape = shapes["into"]
            found["leak"] = torch.linspace(-2, 2, LEAKS, dtype=torch.float64)
            found["into"] = 0.5 * torch.randn(shape, generator=generator, dtype=torch.float64)
            found |= {f"reader.{n}": w for n, w in self.reader.initial(generator).items()}
        if self.beside:
            found["beside"] = torch.zeros(shapes["beside"], dtype=torch.float64)
        return found

    def posterior(self, phi: Weights, model: Model, ready: Theta, block: Block) -> Approximation:
        return Path(self, phi, model, ready, block)

    def read(self, phi: Weights, steps: Steps) -> Tensor:
        """g of every step, (n, G, hidden + leaks): what is known from there on."""
        there = steps.real[..., None]
        known = torch.stack([steps.residual, steps.seen.to(steps.x)], dim=-1)
        known = torch.cat([known, steps.x], dim=-1)
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


def term_of(model: Model) -> int:
    """Which latent structure (0, 1, ...) is the recursion.

    Raises:
        ValueError: there are several, or one beside a path or a network.
    """
    own = [i for i, one in enumerate(model.latents) if one.recursive]
    others = [one for one in model.latents if not one.recursive and not one.by_columns]
    if len(own) != 1 or others:
        labels = " and ".join(one.label for one in model.latents)
        raise ValueError(
            f"a model has one recursion, alone or beside linear random effects; here are {labels}"
        )
    return own[0]


@dataclass(frozen=True)
class Path:
    """q of the subjects of a block."""

    encoder: Stepwise
    phi: Weights
    model: Model
    ready: Theta
    block: Block

    @cached_property
    def term(self) -> int:
        """Which latent structure is the recursion."""
        return term_of(self.model)

    @property
    def latent(self) -> Recursion:
        """The recursion."""
        found = self.model.latents[self.term]
        assert isinstance(found, Recursion)
        return found

    @cached_property
    def weights(self) -> Weights:
        """Of the recursion."""
        return part(self.ready, f"latent{self.term + 1}.")

    @cached_property
    def steps(self) -> Steps:
        """The rows as steps, with the outcomes that count."""
        block = self.block
        rows = self.model.latent_rows(self.ready, block.rows, self.term, 0, block.mask)
        return self.latent.as_steps(rows)

    @cached_property
    def reading(self) -> Tensor | None:
        """g of every step; None where nothing is read."""
        return self.encoder.read(self.phi, self.steps) if self.encoder._reads else None

    @cached_property
    def entering(self) -> Tensor:
        """What q sees of every step beside the state, (n, G, .)."""
        steps = self.steps
        known = [steps.x, steps.residual[..., None], steps.seen.to(steps.x)[..., None]]
        if self.encoder.smooth:
            assert self.reading is not None
            known.append(self.reading)
        return torch.cat(known, dim=-1)

    def step(self, t: int, state: Tensor, mean: Tensor, log_sd: Tensor) -> tuple[Tensor, Tensor]:
        """m_t and log sd of q of step t given a state and the law of z, (..., n, d) each."""
        encoder, phi, seen = self.encoder, self.phi, self.entering[:, t]
        known = torch.cat([state, mean, log_sd, seen.expand(*state.shape[:-1], -1)], dim=-1)
        slope = phi["linear"] if t else phi["first"]  # the law of z is another one there
        change = linear(known, slope) + encoder.head(part(phi, "head."), known)
        told = self.steps.real[:, t] if encoder.smooth else self.steps.seen[:, t]
        m, spread = torch.where(told[:, None], change, 0.0).split([encoder.size] * 2, -1)
        return m, spread.clamp(-7, 2)

    def others(self) -> tuple[Tensor, Tensor]:
        """m and log sd of random effects beside the recursion, (n, .) each."""
        if not self.encoder.beside:
            nothing = self.entering.new_zeros(len(self.entering), 0)
            return nothing, nothing
        assert self.reading is not None
        m, log_sd = linear(self.reading[:, 0], self.phi["beside"]).chunk(2, -1)
        return m, log_sd.clamp(-7, 2)

    def sample(self, e: Tensor) -> Sampled:
        """Draws by white noise e (M, n, k), step after step."""
        before = sum(one.dim for one in self.model.latents[: self.term])
        own, latent = slice(before, before + self.latent.dim), self.latent
        noise, unseen = latent.split(e[..., own], self.steps.number)
        drawn, moments = [], []

        def next_noise(t: int, state: Tensor, *law: Tensor) -> Tensor:
            m, log_sd = self.step(t, state, *law)
            drawn.append(m + log_sd.exp() * noise[..., t, :])
            moments.append((m, log_sd))
            return drawn[-1]

        mu = latent.run(self.weights, self.steps, next_noise, unseen)
        m, log_sd = (torch.stack(each, dim=-2) for each in zip(*moments, strict=True))
        z = torch.cat([torch.stack(drawn, dim=-2), unseen], dim=-1).flatten(-2)
        b = torch.cat([z, e[..., own][..., z.shape[-1] :]], dim=-1)
        mean, sd = self.others()
        rest = torch.cat([e[..., :before], e[..., own.stop :]], dim=-1)
        static = mean + sd.exp() * rest
        b = torch.cat([static[..., :before], b, static[..., before:]], dim=-1)
        ratio = 0.5 * (b.square() - e.square()).sum(-1) - log_sd.sum((-2, -1)) - sd.sum(-1)
        kl = _kl(m, log_sd)  # (M, n, G, d)
        of_others = _kl(mean, sd)
        mu2 = latent.at_rows(mu, self.steps)
        terms = [i for i in range(len(self.model.latents)) if i != self.term]
        if terms:
            mu2 = mu2 + self.model.mu2(self.ready, b, self.block.rows, terms)
        by_step = kl.mean(0)
        total = by_step.sum((-2, -1)) + of_others.sum(-1)
        each = (by_step, of_others, before, own.stop)
        means = (m.mean(0), mean, before, own.stop)
        return Sampled(b, ratio, total, self._placed(*each), self._placed(*means), mu2)

    def _placed(self, steps: Tensor, others: Tensor, first: int, end: int) -> Tensor:
        """Numbers of steps (n, G, d) and of other effects in the order of b, (n, k)."""
        latent, missing = self.latent, self.latent.per_step - self.latent.size
        wide = torch.nn.functional.pad(steps, (0, missing)).flatten(-2)
        wide = torch.nn.functional.pad(wide, (0, latent.dim - wide.shape[-1]))
        return torch.cat([others[:, :first], wide, others[:, first:]], dim=-1)


def _kl(mean: Tensor, log_sd: Tensor) -> Tensor:
    """KL of N(mean, sd^2) from N(0, 1), element by element."""
    return 0.5 * ((2 * log_sd).exp() + mean.square() - 1) - log_sd
