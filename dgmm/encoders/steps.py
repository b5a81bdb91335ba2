"""q of a recursion as a product over steps: how it is drawn from, whatever the law of a step.

    q(b | y) = q(b_0) prod_t q(e_t | s_{t-1}, y),   s_{t-1} the state of the model itself, which the
    draws so far have made

An encoder is the weights and their sizes, a path what it says of the subjects of a block.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

from dgmm.encoders.base import Amortised, Sampled
from dgmm.latent import Law, Recursion, Steps, Walk
from dgmm.model import Alike, Model
from dgmm.networks import Weights
from dgmm.panel import Block, LatentRows, Past
from dgmm.parameters import Theta, part

__all__ = ["Path", "Sequential", "recursion_of", "term_of"]


class Sequential(Amortised):
    """An encoder of a recursion."""

    @abstractmethod
    def posterior(self, phi: Weights, model: Model, ready: Theta, block: Block) -> Path:
        """q of the subjects of a block at the current theta."""


@dataclass(frozen=True)
class Path:
    """q of the subjects of a block."""

    phi: Weights
    model: Model
    ready: Theta
    block: Block

    @abstractmethod
    def step(self, t: int, state: Tensor, law: Law) -> Law:
        """q of e_t given a state and the law of z under the model."""

    @abstractmethod
    def others(self) -> Law:
        """q of random effects beside the recursion, (n, .)."""

    def mixing(self) -> Tensor | None:
        """Weights of the dynamics of every step, (n, G, K), of a recursion that mixes several."""
        return None

    @cached_property
    def term(self) -> int:
        """Which latent structure is the recursion."""
        return term_of(self.model)

    @cached_property
    def latent(self) -> Recursion:
        """The recursion."""
        return recursion_of(self.model)

    @cached_property
    def weights(self) -> Weights:
        """Of the recursion."""
        return part(self.ready, f"latent{self.term + 1}.")

    @cached_property
    def steps(self) -> Steps:
        """The rows as steps, with the outcomes that count."""
        if self.alike is not None:
            return self.latent.as_steps([self._common_rows(self.alike)])
        seen = [own.mask for own in self.block.blocks]
        return self.latent.as_steps(self.model.rows_of(self.ready, self.block, self.term, seen))

    @cached_property
    def alike(self) -> Alike | None:
        """The outcomes as columns, where they were measured in the same rows."""
        return self.model.alike(self.block) if len(self.model.latents) == 1 else None

    def _common_rows(self, alike: Alike) -> LatentRows:
        """Rows of all outcomes at once, columns in the order of the recursion."""
        order = sorted(range(len(self.positions)), key=self.positions.__getitem__)
        residual, spread = alike.standing(self.ready)
        seen = alike.stack.counts[..., order]
        residual = torch.where(seen, residual[..., order], 0.0)
        rows = self.block.rows.of_term(self.term)
        past = Past(residual, spread[..., order], seen)
        return rows._replace(past=past, there=self.block.there)

    @cached_property
    def own(self) -> slice:
        """The elements of b that are those of the recursion."""
        before = sum(one.dim for one in self.model.latents[: self.term])
        return slice(before, before + self.latent.dim)

    def walked(self, b: Tensor) -> Walk:
        """Where b (M, n, k) leads, with the outcomes that count."""
        return self.latent.walked(self.weights, b[..., self.own], self.steps)

    def at_rows(self, values: Tensor) -> Tensor:
        """Numbers of steps (n, G, d) at the rows of the first outcome, (n, J, d)."""
        place = self.steps.places[self.positions[0]]
        return values.gather(1, place[..., None].expand(-1, -1, values.shape[-1]))

    def sample(self, e: Tensor) -> Sampled:
        """Draws by white noise e (M, n, k), step after step."""
        own, latent = self.own, self.latent
        before = own.start
        noise, unseen = latent.split(e[..., own], self.steps.number)
        drawn: list[Tensor] = []
        laws: list[Law] = []

        def next_noise(t: int, state: Tensor, law: Law) -> Tensor:
            laws.append(self.step(t, state, law))
            drawn.append(laws[-1].at(noise[..., t, :]))
            return drawn[-1]

        mu = latent.run(self.weights, self.steps, next_noise, unseen).mu
        z = torch.cat([torch.stack(drawn, dim=-2), unseen], dim=-1).flatten(-2)
        b = torch.cat([z, e[..., own][..., z.shape[-1] :]], dim=-1)
        static = self.others()
        rest = static.at(torch.cat([e[..., :before], e[..., own.stop :]], dim=-1))
        b = torch.cat([rest[..., :before], b, rest[..., before:]], dim=-1)
        scale = sum(one.log_sd.sum(-1) for one in laws) + static.log_sd.sum(-1)
        ratio = 0.5 * (b.square() - e.square()).sum(-1) - scale
        kl = torch.stack([one.kl().mean(0) for one in laws], dim=-2)  # (n, G, d)
        mean = torch.stack([one.mean.mean(0) for one in laws], dim=-2)
        of_others = static.kl()
        return Sampled(
            b,
            ratio,
            kl.sum((-2, -1)) + of_others.sum(-1),
            self._placed(kl, of_others, before),
            self._placed(mean, static.mean, before),
            *self._of_rows(mu, b),
        )

    def _of_rows(self, mu: Tensor, b: Tensor) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """mu2 of the rows of every outcome, or of all of them at once."""
        latent, places = self.latent, self.steps.places
        if self.alike is not None:
            return (), latent.at_common_rows(mu, places[0])[..., self.positions]
        each = (latent.at_rows(mu, places[k], k) for k in self.positions)
        return tuple(one + self.beside(b, o) for o, one in enumerate(each)), None

    @cached_property
    def positions(self) -> list[int]:
        """The place of every outcome of the model among those of the recursion."""
        return [self.latent.position(one.name) for one in self.model.outcomes]

    def beside(self, b: Tensor, o: int) -> Tensor | float:
        """mu2 of other random effects at the rows of an outcome, (M, n, J)."""
        terms = [i for i in range(len(self.model.latents)) if i != self.term]
        if not terms:
            return 0.0
        return self.model.mu2(self.ready, b, self.block.blocks[o].rows, terms, outcome=o)

    def _placed(self, steps: Tensor, others: Tensor, before: int) -> Tensor:
        """Numbers of steps (n, G, d) and of other effects in the order of b, (n, k)."""
        latent = self.latent
        wide = pad(steps, (0, latent.per_step - latent.size)).flatten(-2)
        wide = pad(wide, (0, latent.dim - wide.shape[-1]))
        return torch.cat([others[:, :before], wide, others[:, before:]], dim=-1)


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
    (term,) = own
    entered = {entry.outcome for entry in model.entries[term]}
    left = [one.name for o, one in enumerate(model.outcomes) if o not in entered]
    if left:
        label = model.latents[term].label
        raise ValueError(
            f"all outcomes of a model share its recursion, and `{left[0]}` is without {label}: "
            f"write it in every formula under one name, ({label} |p| group)"
        )
    return term


def recursion_of(model: Model) -> Recursion:
    """The recursion of a model."""
    found = model.latents[term_of(model)]
    assert isinstance(found, Recursion)
    return found
