"""Particles: draws of a recursion that go forwards in time and are resampled on their way.

    log p(y) >= E sum_t log sum_k W_{t-1,k} w_{t,k},
    w_t = p(y_t | z_t, past) p(z_t | past) / q(z_t | .)

W are the normalised weights; where their effective number falls below half they are made equal by
systematic resampling. Of a bootstrap filter q is the prior, and the particles before the weights of
step t are draws of z_t given the outcomes before it. Maddison et al. (2017), NeurIPS.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dgmm.encoders.base import Sampled
from dgmm.encoders.steps import Path, Sequential
from dgmm.latent import Law
from dgmm.model import Alike, Model
from dgmm.networks import Weights
from dgmm.panel import Block
from dgmm.parameters import Theta
from dgmm.posterior.modes import weighted_moments

__all__ = ["Cloud", "Learnt"]

FEW = 0.5
"""Effective share of particles below which they are resampled."""


@dataclass(frozen=True, eq=False)
class Learnt:
    """A step-by-step posterior with its weights: where draws of importance sampling come from."""

    encoder: Sequential
    phi: Weights

    def draws(self, model: Model, ready: Theta, block: Block, e: Tensor) -> Sampled:
        """Draws of q of the subjects of a block by white noise e (M, n, k)."""
        return self.encoder.posterior(self.phi, model, ready, block).sample(e)

    def one_step(
        self,
        model: Model,
        ready: Theta,
        block: Block,
        size: int,
        generator: torch.Generator,
        scale: str,
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance of eta or g^-1(eta) of every row given the outcomes before, (n, J)."""
        q = self.encoder.posterior(self.phi, model, ready, block)
        cloud = Cloud(q, size, generator, bootstrap=True, scale=scale)
        cloud.bound()
        return cloud.mean, cloud.variance

    def filtered(
        self, model: Model, ready: Theta, block: Block, size: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance of z at the rows of the first outcome given the outcomes so far.

        (n, J, d) each.
        """
        q = self.encoder.posterior(self.phi, model, ready, block)
        cloud = Cloud(q, size, generator, bootstrap=True)
        cloud.bound()
        mean, variance = (torch.stack(some, 1) for some in zip(*cloud.filtered, strict=True))
        return q.at_rows(mean), q.at_rows(variance)

    def smoothed(
        self, model: Model, ready: Theta, block: Block, b: Tensor, log_weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Those given all outcomes, of weighted draws b (M, n, k)."""
        q = self.encoder.posterior(self.phi, model, ready, block)
        mean, variance = weighted_moments(q.walked(b).z, torch.softmax(log_weight, 0))
        return q.at_rows(mean), q.at_rows(variance)


class Cloud:
    """Particles of the subjects of a block on their way through the steps."""

    def __init__(
        self,
        q: Path,
        draws: int,
        generator: torch.Generator,
        *,
        bootstrap: bool = False,
        scale: str = "link",
    ) -> None:
        self.q, self.draws, self.generator = q, draws, generator
        self.bootstrap, self.scale = bootstrap, scale
        block, steps = q.block, q.steps
        n, J = block.mask.shape
        latent = q.latent
        self.ratio = torch.zeros(draws, n, dtype=torch.float64)  # log q - log p of a step
        self.log_weight = torch.full((draws, n), -math.log(draws), dtype=torch.float64)
        self.total = torch.zeros(n, dtype=torch.float64)
        self.mean, self.variance = torch.zeros(2, n, J, dtype=torch.float64)
        self.filtered = list[tuple[Tensor, Tensor]]()  # moments of z of every step, (n, d) each
        others = q.others()
        e = self._noise(n, others.mean.shape[-1])
        self.static = others.at(e)
        ratio = 0.5 * (self.static.square() - e.square()).sum(-1)
        self.of_static = ratio - others.log_sd.sum(-1)
        self.unseen = self._noise(n, steps.number, latent.per_step - latent.size)
        b = self._wide(self.static)
        # eta without the recursion: of outcomes that are alike together, else one by one
        self.mu1 = None if q.alike is None else q.alike.mu1(q.ready)
        fixed = q.model.fixed(q.ready, block) if q.alike is None else ()
        self.base = [
            (mu1 + q.beside(b, o)).expand(draws, *mu1.shape) for o, mu1 in enumerate(fixed)
        ]

    def _noise(self, *size: int) -> Tensor:
        return torch.randn(self.draws, *size, generator=self.generator, dtype=torch.float64)

    def _wide(self, static: Tensor) -> Tensor:
        """b with zeros in the place of the recursion."""
        q = self.q
        before = sum(one.dim for one in q.model.latents[: q.term])
        wide = static.new_zeros(*static.shape[:-1], q.latent.dim)
        return torch.cat([static[..., :before], wide, static[..., before:]], dim=-1)

    def bound(self) -> Tensor:
        """The sum over steps of the log mean weights, (n,)."""
        q = self.q
        self.log_weight = self.log_weight - self.of_static
        q.latent.run(q.weights, q.steps, self._next, self.unseen, self._after)
        return self.total + torch.logsumexp(self.log_weight, 0)

    def _next(self, t: int, state: Tensor, law: Law) -> Tensor:
        noise = self._noise(*law.mean.shape[1:])
        if self.bootstrap:
            self.ratio = torch.zeros_like(self.ratio)
            return noise
        own = self.q.step(t, state, law)
        e = own.at(noise)
        self.ratio = 0.5 * (e.square() - noise.square()).sum(-1) - own.log_sd.sum(-1)
        return e

    def _after(self, t: int, z: Tensor, mu: Tensor, state: Tensor) -> Tensor:
        if self.q.alike is not None and self.mu1 is not None:
            found = self._seen_of_all(self.q.alike, self.mu1, t, mu)
        else:
            found = torch.stack([self._seen_of(o, t, mu) for o in range(len(self.base))]).sum(0)
        self.log_weight = self.log_weight + found - self.ratio
        self.filtered.append(weighted_moments(z, torch.softmax(self.log_weight, 0)))
        return self._resampled(state)

    def _seen_of_all(self, alike: Alike, mu1: Tensor, t: int, mu: Tensor) -> Tensor:
        """log p of what was seen of outcomes that are alike at a step, (M, n)."""
        q, place = self.q, self.q.steps.places[0]
        at = torch.nonzero((place == t).any(0))[:, 0]
        here = (place == t)[:, at]
        random = (mu * q.latent.frame.diagonal())[..., q.positions]
        eta = mu1[:, at] + random[..., None, :]
        first, family = eta[..., 0], q.model.outcomes[0].family
        if self.scale == "response":
            first = family.mean(first, q.model.extra(q.ready, q.block.rows))
        self._note(at, here, first)
        return alike.at_columns(at, here).log_density(q.ready, eta)

    def _seen_of(self, o: int, t: int, mu: Tensor) -> Tensor:
        """log p of what was seen of an outcome at a step, (M, n)."""
        q, block = self.q, self.q.block.blocks[o]
        k, family = q.positions[o], q.model.outcomes[o].family
        place = q.steps.places[k]
        at = torch.nonzero((place == t).any(0))[:, 0]  # columns with rows of this step
        here = (place == t)[:, at]
        eta = self.base[o][..., at] + q.latent.frame[k, k] * mu[..., k, None]
        rows = block.rows.at_columns(at)
        extra = q.model.extra(q.ready, rows, outcome=o)
        if o == 0:
            self._note(at, here, family.mean(eta, extra) if self.scale == "response" else eta)
        density = family.log_density(rows.data, eta, extra)
        return torch.where(here & block.mask[:, at], density, 0.0).sum(-1)

    def _note(self, at: Tensor, here: Tensor, value: Tensor) -> None:
        """Moments of the first outcome at rows of a step, before its outcomes are told."""
        first, second = weighted_moments(value, torch.softmax(self.log_weight, 0))
        self.mean[:, at] = torch.where(here, first, self.mean[:, at])
        self.variance[:, at] = torch.where(here, second, self.variance[:, at])

    def _resampled(self, state: Tensor) -> Tensor:
        """Equal weights for the subjects whose effective number of particles has become small."""
        level = torch.logsumexp(self.log_weight, 0)
        weight = (self.log_weight - level).exp()  # (M, n)
        few = 1 / weight.square().sum(0) < FEW * self.draws
        if not bool(few.any()):
            return state
        start = torch.rand(weight.shape[1], 1, generator=self.generator, dtype=torch.float64)
        places = (torch.arange(self.draws, dtype=torch.float64) + start) / self.draws
        chosen = torch.searchsorted(weight.T.cumsum(1).contiguous(), places).clamp(
            max=self.draws - 1
        )
        same = torch.arange(self.draws)[:, None]
        chosen = torch.where(few, chosen.T, same)  # (M, n)
        self.total = torch.where(few, self.total + level, self.total)
        self.log_weight = torch.where(few, -math.log(self.draws), self.log_weight)
        self.base = [one.gather(0, chosen[..., None].expand_as(one)) for one in self.base]
        return state.gather(0, chosen[..., None].expand_as(state))
