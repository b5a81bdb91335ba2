"""Bounds of log p(y) beside the ELBO: importance weights, and particles that are resampled.

    ELBO       E log w_1                                                  w_k = p(y, b_k) / q(b_k)
    IWAE_K     E log 1/K sum_k w_k
    particles  E sum_t log sum_k W_{t-1,k} w_{t,k}

w_{t,k} is the factor of step t, W_{t-1,k} the normalised weights before it, which are made equal
by systematic resampling where their effective number falls below half. All three lie below
log p(y); the second and the third reach it as K grows. Maddison et al. (2017), NeurIPS.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from dgmm.encoders import Amortised
from dgmm.encoders.stepwise import Path, Stepwise
from dgmm.model import Model
from dgmm.networks import Weights
from dgmm.panel import Panel
from dgmm.parameters import Theta

__all__ = ["Particles", "importance", "particles"]

CELLS = 400_000
"""Rows times draws held at once."""

FEW = 0.5
"""Effective share of particles below which they are resampled."""


def importance(
    model: Model,
    encoder: Amortised,
    theta: Theta,
    phi: Weights,
    panel: Panel,
    draws: int,
    generator: torch.Generator,
) -> Tensor:
    """log weights of draws of q, (draws, n).

    Their mean over draws is the ELBO; logsumexp over any K of them, less log K, is IWAE_K.
    """
    out = torch.zeros(draws, panel.n, dtype=torch.float64)
    with torch.no_grad():
        ready = model.prepare(theta)
        for block in panel.blocks(cells=max(1, CELLS // draws)):
            size = (draws, len(block.subjects), model.k)
            e = torch.randn(size, generator=generator, dtype=torch.float64)
            drawn = encoder.posterior(phi, model, ready, block).sample(e)
            value = drawn.log_likelihood(model, ready, block) - drawn.log_ratio
            out[:, block.subjects] = value
    return out


class Particles(NamedTuple):
    """What a cloud of particles says of every subject."""

    value: Tensor  # (n,) the bound
    mean: Tensor  # (N,) E(eta | outcomes before the row)
    variance: Tensor  # (N,)


def particles(
    model: Model,
    encoder: Stepwise,
    theta: Theta,
    phi: Weights,
    panel: Panel,
    draws: int,
    generator: torch.Generator,
    *,
    bootstrap: bool = False,
) -> Particles:
    """The particle bound of every subject; with ``bootstrap`` particles move by the prior.

    The moments of eta before its own outcome are those of a bootstrap filter.
    """
    value = torch.zeros(panel.n, dtype=torch.float64)
    mean, variance = torch.zeros(2, panel.n_rows, dtype=torch.float64)
    with torch.no_grad():
        ready = model.prepare(theta)
        for block in panel.blocks(cells=max(1, CELLS // draws)):
            one = _Cloud(Path(encoder, phi, model, ready, block), draws, generator, bootstrap)
            value[block.subjects] = one.bound()
            at = block.index[block.mask]
            mean[at], variance[at] = one.mean[block.mask], one.variance[block.mask]
    return Particles(value, mean, variance)


class _Cloud:
    """Particles of the subjects of a block on their way through the steps."""

    def __init__(self, q: Path, draws: int, generator: torch.Generator, bootstrap: bool) -> None:
        self.q, self.draws, self.generator, self.bootstrap = q, draws, generator, bootstrap
        block, steps = q.block, q.steps
        n, J = block.mask.shape
        latent = q.latent
        self.ratio = torch.zeros(draws, n, dtype=torch.float64)  # log q - log p of a step
        self.log_weight = torch.full((draws, n), -math.log(draws), dtype=torch.float64)
        self.total = torch.zeros(n, dtype=torch.float64)
        self.mean, self.variance = torch.zeros(2, n, J, dtype=torch.float64)
        m, log_sd = q.others()
        e = self._noise(n, m.shape[-1])
        self.static = m + log_sd.exp() * e
        self.of_static = 0.5 * (self.static.square() - e.square()).sum(-1) - log_sd.sum(-1)
        self.unseen = self._noise(n, steps.number, latent.per_step - latent.size)
        self.base = q.model.mu1(q.ready, block.rows) + self._beside(self.static)

    def _noise(self, *size: int) -> Tensor:
        return torch.randn(self.draws, *size, generator=self.generator, dtype=torch.float64)

    def _beside(self, static: Tensor) -> Tensor:
        """mu2 of the random effects beside the recursion."""
        q, latents = self.q, self.q.model.latents
        terms = [i for i in range(len(latents)) if i != q.term]
        if not terms:
            return torch.zeros(self.draws, *q.block.mask.shape, dtype=torch.float64)
        before = sum(one.dim for one in latents[: q.term])
        wide = static.new_zeros(*static.shape[:-1], q.latent.dim)
        b = torch.cat([static[..., :before], wide, static[..., before:]], dim=-1)
        return q.model.mu2(q.ready, b, q.block.rows, terms)

    def bound(self) -> Tensor:
        """The sum over steps of the log mean weights, (n,)."""
        q = self.q
        self.log_weight = self.log_weight - self.of_static
        q.latent.run(q.weights, q.steps, self._next, self.unseen, self._after)
        return self.total + torch.logsumexp(self.log_weight, 0)

    def _next(self, t: int, state: Tensor, mean: Tensor) -> Tensor:
        noise = self._noise(*mean.shape[1:])
        if self.bootstrap:
            self.ratio = torch.zeros_like(self.ratio)
            return noise
        m, log_sd = self.q.step(t, state, mean)
        e = m + log_sd.exp() * noise
        self.ratio = 0.5 * (e.square() - noise.square()).sum(-1) - log_sd.sum(-1)
        return e

    def _after(self, t: int, mu: Tensor, state: Tensor) -> Tensor:
        q, block = self.q, self.q.block
        at = torch.nonzero((q.steps.place == t).any(0))[:, 0]  # columns with rows of this step
        here = (q.steps.place == t)[:, at]
        eta = self.base[..., at] + q.latent.frame[0, 0] * mu[..., None]
        weight = torch.softmax(self.log_weight, 0)
        first = torch.einsum("mn,mnj->nj", weight, eta)
        second = torch.einsum("mn,mnj->nj", weight, (eta - first).square())
        self.mean[:, at] = torch.where(here, first, self.mean[:, at])
        self.variance[:, at] = torch.where(here, second, self.variance[:, at])
        rows = block.rows.at_columns(at)
        density = q.model.family.log_density(rows.data, eta, q.model.extra(q.ready, rows))
        seen = torch.where(here & block.mask[:, at], density, 0.0).sum(-1)
        self.log_weight = self.log_weight + seen - self.ratio
        return self._resampled(state)

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
        self.base = self.base.gather(0, chosen[..., None].expand_as(self.base))
        return state.gather(0, chosen[..., None].expand_as(state))
