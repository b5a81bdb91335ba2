"""Bounds of log p(y) beside the ELBO: importance weights, and particles that are resampled.

    ELBO       E log w_1                                                  w_k = p(y, b_k) / q(b_k)
    IWAE_K     E log 1/K sum_k w_k
    particles  :mod:`dgmm.encoders.particles`

All three lie below log p(y); the second and the third reach it as K grows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dgmm.encoders import Amortised
from dgmm.encoders.particles import Cloud
from dgmm.encoders.stepwise import Path, Stepwise
from dgmm.model import Model
from dgmm.networks import Weights
from dgmm.panel import Panel
from dgmm.parameters import Theta

__all__ = ["importance", "particles"]

CELLS = 400_000
"""Rows times draws held at once."""


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


def particles(
    model: Model,
    encoder: Stepwise,
    theta: Theta,
    phi: Weights,
    panel: Panel,
    draws: int,
    generator: torch.Generator,
) -> Tensor:
    """The particle bound of every subject, (n,)."""
    value = torch.zeros(panel.n, dtype=torch.float64)
    with torch.no_grad():
        ready = model.prepare(theta)
        for block in panel.blocks(cells=max(1, CELLS // draws)):
            cloud = Cloud(Path(encoder, phi, model, ready, block), draws, generator)
            value[block.subjects] = cloud.bound()
    return value
