"""q of a recursion as a product over steps: how it is drawn from, whatever the law of a step.

    q(b | y) = q(b_0) prod_t q(e_t | s_{t-1}, y),   s_{t-1} the state of the model itself, which the
    draws so far have made

An encoder is the weights and their sizes, a path what it says of the subjects of a block.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

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


class _Drawn(NamedTuple):
    """Draws of q of the steps of a recursion, and what is known of q there."""

    drawn: Tensor  # (M, n, G, d)
    mu: Tensor  # (M, n, G, K)
    log_sd: Tensor  # (M, n, G, d) or (n, G, d)
    kl: Tensor  # (n, G, d), mean over draws
    mean: Tensor  # (n, G, d), mean over draws

    def ratio(self, noise: Tensor) -> Tensor:
        """log q - log p of every step, (M, n, G), of draws that one law of q gave."""
        return 0.5 * (self.drawn.square() - noise.square()).sum(-1) - self.log_sd.sum(-1)


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

    def every(self, states: Tensor, laws: Law) -> Law:
        """:meth:`step` of all steps at once, of states (n, G, S) that no draw has made."""
        raise NotImplementedError(f"{type(self).__name__} goes one step after the other")

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
        told = latent.thinned(self.steps, unseen)
        walk = self._at_once(told, noise) or self._one_by_one(told, noise, unseen)
        z = torch.cat([walk.drawn, unseen], dim=-1).flatten(-2)
        b = torch.cat([z, e[..., own][..., z.shape[-1] :]], dim=-1)
        static = self.others()
        rest = static.at(torch.cat([e[..., :before], e[..., own.stop :]], dim=-1))
        b = torch.cat([rest[..., :before], b, rest[..., before:]], dim=-1)
        scale = walk.log_sd.sum((-2, -1)) + static.log_sd.sum(-1)
        ratio = 0.5 * (b.square() - e.square()).sum(-1) - scale
        of_others = static.kl()
        return Sampled(
            b,
            ratio,
            walk.kl.sum((-2, -1)) + of_others.sum(-1),
            self._placed(walk.kl, of_others, before),
            self._placed(walk.mean, static.mean, before),
            *self._of_rows(walk.mu, b),
        )

    @property
    def by_step(self) -> bool:
        """log p(y) is a sum over steps of integrals over the z of that step alone."""
        alone = self.latent.dim == self.model.k
        return alone and self.latent.foresees(self.steps)

    def weighted(self, e: Tensor) -> Tensor:
        """log 1/K sum_k p(y, b_k) / q(b_k), (n,), :attr:`by_step` the sum of those of all steps.

        e: white noise (K, n, k).
        """
        if self.by_step:
            noise, unseen = self.latent.split(e[..., self.own], self.steps.number)
            told = self.latent.thinned(self.steps, unseen)
            return (torch.logsumexp(self.log_weights(noise, told), 0) - math.log(len(e))).sum(-1)
        value = self.sample(e).log_weight(self.model, self.ready, self.block)
        return torch.logsumexp(value, 0) - math.log(len(e))

    def log_weights(self, noise: Tensor, told: Steps | None = None) -> Tensor:
        """log p(y_t | z_t) p(z_t) / q(z_t) of every step, (M, n, G), of a q :attr:`by_step`.

        noise: white noise of z, (M, n, G, d). told: what a state is told, by default all.
        """
        latent, model, steps = self.latent, self.model, self.steps
        walk = self._at_once(told or steps, noise)
        assert walk is not None
        total = -walk.ratio(noise)
        if self.alike is not None:
            mu2 = self._of_common_rows(walk.mu)
            there = self.alike.by_row(self.ready, self.alike.mu1(self.ready) + mu2)
            total = total.scatter_add(-1, steps.places[0].expand_as(there), there)
            return torch.where(steps.real, total, 0.0)
        each = walk.mu.unbind(-1)
        for o, mu1 in enumerate(model.fixed(self.ready, self.block)):
            k, own = self.positions[o], self.block.blocks[o]
            eta = mu1 + latent.of_rows(each[k], steps.places[k], k)
            extra = model.extra(self.ready, own.rows, outcome=o)
            density = model.outcomes[o].family.log_density(own.rows.data, eta, extra)
            there = torch.where(own.mask, density, 0.0)
            total = total.scatter_add(-1, steps.places[k].expand_as(there), there)
        return torch.where(steps.real, total, 0.0)

    def _one_by_one(self, steps: Steps, noise: Tensor, unseen: Tensor) -> _Drawn:
        drawn: list[Tensor] = []
        laws: list[Law] = []

        def next_noise(t: int, state: Tensor, law: Law) -> Tensor:
            laws.append(self.step(t, state, law))
            drawn.append(laws[-1].at(noise[..., t, :]))
            return drawn[-1]

        mu = self.latent.run(self.weights, steps, next_noise, unseen).mu
        return _Drawn(
            torch.stack(drawn, dim=-2),
            mu,
            torch.stack([one.log_sd for one in laws], dim=-2),
            torch.stack([one.kl().mean(0) for one in laws], dim=-2),
            torch.stack([one.mean.mean(0) for one in laws], dim=-2),
        )

    def _at_once(self, steps: Steps, noise: Tensor) -> _Drawn | None:
        """All steps together, where the outcomes seen have made their states; else None."""
        latent, weights = self.latent, self.weights
        states = latent.foreseen(weights, steps)
        if states is None:
            return None
        if steps.shown is not None:
            states = states * steps.shown
        law = latent.prior(weights, states, steps.x, False)
        own = self.every(states, law)
        drawn = own.at(noise)
        mu = latent.emitted(weights, law.at(drawn), states, steps.x)
        return _Drawn(drawn, mu, own.log_sd, own.kl(), own.mean)

    def _of_common_rows(self, mu: Tensor) -> Tensor:
        """mu2 of rows that all outcomes have in common, in the order of the model, (M, n, J, K)."""
        return self.latent.at_common_rows(mu, self.steps.places[0])[..., self.positions]

    def _of_rows(self, mu: Tensor, b: Tensor) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """mu2 of the rows of every outcome, or of all of them at once."""
        latent, places = self.latent, self.steps.places
        if self.alike is not None:
            return (), self._of_common_rows(mu)
        each = mu.unbind(-1)
        rows = (latent.of_rows(each[k], places[k], k) for k in self.positions)
        return tuple(one + self.beside(b, o) for o, one in enumerate(rows)), None

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
