"""ELBO = E_q log p(y | b) - KL(q || p), subject by subject, for q of an encoder."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dgmm.encoders import Amortised, Encoder, Posterior
from dgmm.encoders.base import from_natural
from dgmm.model import Model
from dgmm.networks import Weights
from dgmm.numerics.quadrature import MOST_DIMENSIONS, sobol_gaussian
from dgmm.panel import Block, Panel
from dgmm.parameters import Theta

__all__ = ["Bound", "elbo", "evaluate", "refine"]

NEWTON_DRAWS = 16
"""Draws of the expectations in a Newton step of q."""

WIDE = 2_000
"""Rows of a block where b of a subject has very many elements."""


@dataclass(frozen=True)
class Bound:
    """ELBO and its parts per subject, (n,) each; ``kl_by_direction`` and ``mean`` (n, k)."""

    reconstruction: Tensor
    kl: Tensor
    kl_by_direction: Tensor
    mean: Tensor  # of q
    mc_error: float = math.nan  # of the sum over subjects

    @property
    def elbo(self) -> Tensor:
        """reconstruction - KL."""
        return self.reconstruction - self.kl


def elbo(
    model: Model, encoder: Amortised, theta: Theta, phi: Weights, block: Block, e: Tensor
) -> Bound:
    """Per-subject ELBO with draws of q by e (M, n, k); masked rows contribute nothing."""
    ready = model.prepare(theta)
    q = encoder.posterior(phi, model, ready, block).sample(e)
    reconstruction = q.log_likelihood(model, ready, block).mean(0)
    return Bound(reconstruction, q.kl, q.kl_by_direction, q.mean)


def evaluate(
    model: Model,
    encoder: Amortised,
    theta: Theta,
    phi: Weights,
    panel: Panel,
    seed: int,
    draws: int = 64,
    replicates: int = 4,
    newton: int = 0,
) -> Bound:
    """The ELBO of every subject by quasi-random draws; error from independent replicates.

    newton: steps by which q of every subject is refined first.
    """
    reconstruction = torch.zeros(replicates, panel.n, dtype=torch.float64)
    divergence = torch.zeros(replicates, panel.n, dtype=torch.float64)
    by_direction, mean = torch.zeros(2, panel.n, model.k, dtype=torch.float64)
    streams = [np.random.default_rng([seed, 53, number]) for number in range(replicates)]
    own = np.random.default_rng([seed, 59])
    with torch.no_grad():
        ready = model.prepare(theta)
    wide = model.k > MOST_DIMENSIONS  # draws of all subjects at once would fill the memory
    for block in panel.blocks(cells=WIDE) if wide else panel.blocks():
        size = len(block.subjects)
        with torch.no_grad():
            q = encoder.posterior(phi, model, ready, block)
        if newton and isinstance(encoder, Encoder) and isinstance(q, Posterior):
            e = sobol_gaussian(size, model.k, NEWTON_DRAWS, own)
            q = refine(model, ready, q, block, e, newton, encoder.diagonal)
        for number, rng in enumerate(streams):
            with torch.no_grad():
                drawn = q.sample(sobol_gaussian(size, model.k, draws, rng))
                value = drawn.log_likelihood(model, ready, block).mean(0)
            reconstruction[number, block.subjects] = value
            divergence[number, block.subjects] = drawn.kl
        mean[block.subjects], by_direction[block.subjects] = drawn.mean, drawn.kl_by_direction
    apart = divergence - divergence[0]  # zero where the KL has a closed form
    kl = divergence[0] + apart.mean(0)
    error = float((reconstruction - apart).sum(1).std() / math.sqrt(replicates))
    return Bound(reconstruction.mean(0), kl, by_direction, mean, error)


def refine(
    model: Model,
    ready: Theta,
    q: Posterior,
    block: Block,
    e: Tensor,
    steps: int,
    diagonal: bool = False,
) -> Posterior:
    """Newton steps of q on the bound of its own subject, expectations by the draws e (M, n, k),

        P <- I + E_q J'W J,    m <- m + P^-1 {E_q d log p(y | b) / d b - m},

    J = d eta / d b and W the information in eta. A step is halved, and in the end left out, where
    it does not raise the bound. For a linear Gaussian model one step gives the exact posterior.
    """
    best = _value(model, ready, q, block, e)
    for _ in range(steps):
        target = _newton(model, ready, q, block, e, diagonal)
        open_ = torch.ones(len(best), dtype=torch.bool)
        for length in (1.0, 0.5, 0.25):
            mean = q.mean + length * (target.mean - q.mean)
            trial = Posterior(mean, target.root, target.log_det_root)
            value = _value(model, ready, trial, block, e)
            better = open_ & (value > best)
            q = Posterior(
                torch.where(better[:, None], trial.mean, q.mean),
                torch.where(better[:, None, None], trial.root, q.root),
                torch.where(better, trial.log_det_root, q.log_det_root),
            )
            best, open_ = torch.where(better, value, best), open_ & ~better
            if not bool(open_.any()):
                break
    return q


def _value(model: Model, ready: Theta, q: Posterior, block: Block, e: Tensor) -> Tensor:
    with torch.no_grad():
        value: Tensor = model.log_likelihood(ready, q.draw(e), block).mean(0) - q.kl()
    return value


def _newton(
    model: Model, ready: Theta, q: Posterior, block: Block, e: Tensor, diagonal: bool
) -> Posterior:
    """Where one full step would lead."""
    b = q.draw(e)
    shift = torch.zeros_like(q.mean, requires_grad=True)
    with torch.enable_grad():
        total = model.log_likelihood(ready, b + shift, block).mean(0).sum()
    gradient = torch.autograd.grad(total, shift)[0] - q.mean
    with torch.no_grad():
        P = model.precision(ready, b, block).mean(0)
        step, root, log_det = from_natural(P, gradient, diagonal)
    return Posterior(q.mean + step, root, log_det)
