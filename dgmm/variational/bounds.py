"""Bounds of log p(y) beside the ELBO: importance weights, and particles that are resampled.

    ELBO       E log w_1                                                  w_k = p(y, b_k) / q(b_k)
    IWAE_K     E log 1/K sum_k w_k
    particles  :mod:`dgmm.encoders.particles`

All three lie below log p(y); the second and the third reach it as K grows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from dgmm.encoders import Amortised
from dgmm.encoders.particles import Cloud
from dgmm.encoders.steps import Sequential
from dgmm.model import Model
from dgmm.networks import Weights
from dgmm.panel import Block, Panel
from dgmm.parameters import Theta

__all__ = ["importance", "particles", "weighted", "weighted_of_all"]

CELLS = 400_000
"""Rows times draws held at once."""


def weighted(
    model: Model, encoder: Sequential, theta: Theta, phi: Weights, block: Block, e: Tensor
) -> Tensor:
    """IWAE_K of the subjects of a block, (n,), by white noise e (K, n, k), to be differentiated.

    Where outcomes alone make the states it is the sum over steps of IWAE_K of each.
    """
    return encoder.posterior(phi, model, model.prepare(theta), block).weighted(e)


def weighted_of_all(
    model: Model,
    encoder: Sequential,
    theta: Theta,
    phi: Weights,
    panel: Panel,
    draws: int,
    generator: torch.Generator,
) -> Tensor:
    """:func:`weighted` of every subject of a panel, (n,), of K = ``draws`` draws."""
    value = torch.zeros(panel.n, dtype=torch.float64)
    with torch.no_grad():
        ready = model.prepare(theta)
        for block, e in _noise(model, panel, draws, generator):
            q = encoder.posterior(phi, model, ready, block)
            value[block.subjects] = q.weighted(e)
    return value


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
        for block, e in _noise(model, panel, draws, generator):
            drawn = encoder.posterior(phi, model, ready, block).sample(e)
            out[:, block.subjects] = drawn.log_weight(model, ready, block)
    return out


def _noise(
    model: Model, panel: Panel, draws: int, generator: torch.Generator
) -> Iterator[tuple[Block, Tensor]]:
    """The blocks of a panel with white noise (draws, n, k) for each."""
    for block in panel.blocks(cells=max(1, CELLS // draws)):
        size = (draws, len(block.subjects), model.k)
        yield block, torch.randn(size, generator=generator, dtype=torch.float64)


def particles(
    model: Model,
    encoder: Sequential,
    theta: Theta,
    phi: Weights,
    panel: Panel,
    draws: int,
    generator: torch.Generator,
) -> Tensor:
    """The particle bound of every subject, (n,).

    Where outcomes alone make the states, particles are new ones at every step,

        sum_t log 1/K sum_k p(y_t | z_tk) p(z_tk) / q(z_tk).
    """
    value = torch.zeros(panel.n, dtype=torch.float64)
    with torch.no_grad():
        ready = model.prepare(theta)
        for block in panel.blocks(cells=max(1, CELLS // draws)):
            q = encoder.posterior(phi, model, ready, block)
            if q.by_step:
                size = (draws, *q.steps.real.shape, q.latent.size)
                noise = torch.randn(size, generator=generator, dtype=torch.float64)
                mean = torch.logsumexp(q.log_weights(noise), 0) - math.log(draws)
                value[block.subjects] = mean.sum(-1)
            else:
                value[block.subjects] = Cloud(q, draws, generator).bound()
    return value
