"""The encoder on completed outcomes: it sees imputed values, the likelihood never does."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgmm.encoders import Encoder, context
from dgmm.estimate.control import Control
from dgmm.model import Model
from dgmm.networks import Weights
from dgmm.numerics.quadrature import sobol_gaussian
from dgmm.panel import Block, Panel
from dgmm.parameters import Theta
from dgmm.posterior.draws import complete
from dgmm.runtime.parallel import one_thread
from dgmm.variational.elbo import Bound

__all__ = ["Views", "completed_elbo", "settle", "teach", "views", "with_placeholders"]

IMPUTATIONS = 8
"""Completed data sets over which the bound of the finished encoder is averaged."""


class Views(NamedTuple):
    """Some subjects as the encoder and as the likelihood see them."""

    full: Block  # completed
    seen: Block  # of the same rows those observed; nothing imputed is in it
    imputed: Tensor  # (n, J) bool


def with_placeholders(panel: Panel) -> Panel:
    """Missing outcomes hold one that was seen: masked, but the family's functions stay finite."""
    y = panel.rows.data.y
    return panel.with_outcome(torch.where(panel.observed, y, y[panel.observed][0]))


def views(block: Block, y: Tensor, observed: Tensor) -> Views:
    """A block of a panel with placeholders, completed by ``y`` (N,) for the encoder alone."""
    data = block.rows.data._replace(y=y[block.index])
    full = replace(block, rows=replace(block.rows, data=data))
    seen = observed[block.index] & block.mask
    return Views(full, replace(block, mask=seen), block.mask & ~seen)


def teach(
    model: Model,
    encoder: Encoder,
    theta: Theta,
    phi: Weights,
    some: Views,
    optimiser: torch.optim.Optimizer,
    rate: float,
    pairs: int,
    generator: torch.Generator,
) -> None:
    """One step of the encoder on the ELBO: it sees completed outcomes, observed ones are fitted."""
    n = len(some.full.subjects)
    e = torch.randn(pairs, n, model.k, generator=generator, dtype=torch.float64)
    bound = completed_elbo(model, encoder, theta, phi, some, torch.cat([e, -e]))
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    (-bound.elbo.mean()).backward()
    torch.nn.utils.clip_grad_norm_(list(phi.values()), 100.0)
    optimiser.step()


def completed_elbo(
    model: Model, encoder: Encoder, theta: Theta, phi: Weights, some: Views, e: Tensor
) -> Bound:
    """E log p(y_observed | b) - KL under q(b | y_observed, y_imputed), draws e (M, n, k)."""
    ready = model.prepare(theta)
    q = encoder(phi, context(model, ready, some.full, some.imputed))
    reconstruction = model.log_likelihood(ready, q.draw(e), some.seen).mean(0)
    return Bound(reconstruction, q.kl(), q.kl_by_direction(), q.mean)


@one_thread()
def settle(
    model: Model,
    encoder: Encoder,
    theta: Theta,
    phi: Weights,
    panel: Panel,
    control: Control,
    seed: int,
) -> tuple[Weights, Bound]:
    """The encoder brought to a fixed theta, and its bound, the mean over imputations."""
    generator = torch.Generator().manual_seed(seed + 5)
    y = torch.stack([complete(model, theta, panel, generator)[0] for _ in range(IMPUTATIONS)])
    filled = with_placeholders(panel)
    phi = {name: value.detach().clone().requires_grad_() for name, value in phi.items()}
    optimiser = torch.optim.Adam(list(phi.values()))
    steps = max(1, control.epochs // 5 * panel.n // control.batch)
    for step in range(steps):
        batch = torch.randperm(panel.n, generator=generator)[: control.batch]
        some = views(filled.block(batch), y[step % IMPUTATIONS], panel.observed)
        rate = control.learning_rate * (1 - step / steps)
        teach(model, encoder, theta, phi, some, optimiser, rate, control.pairs, generator)
    learnt = {name: value.detach() for name, value in phi.items()}
    return learnt, _mean_bound(model, encoder, theta, learnt, filled, panel.observed, y, seed)


@torch.no_grad()
def _mean_bound(
    model: Model,
    encoder: Encoder,
    theta: Theta,
    phi: Weights,
    filled: Panel,
    observed: Tensor,
    y: Tensor,
    seed: int,
) -> Bound:
    """The bound by quasi-random draws, its error from the spread over completed outcomes ``y``."""
    parts = torch.zeros(len(y), filled.n, 2 + 2 * model.k, dtype=torch.float64)
    rng = np.random.default_rng([seed, 53])
    for number, completed in enumerate(y):
        for block in filled.blocks():
            some = views(block, completed, observed)
            e = sobol_gaussian(len(block.subjects), model.k, 64, rng)
            bound = completed_elbo(model, encoder, theta, phi, some, e)
            parts[number, block.subjects, 0] = bound.reconstruction
            parts[number, block.subjects, 1] = bound.kl
            parts[number, block.subjects, 2:] = torch.cat([bound.kl_by_direction, bound.mean], 1)
    total = (parts[..., 0] - parts[..., 1]).sum(1)
    error = float(total.std() / math.sqrt(len(y)))
    mean = parts.mean(0)
    by_direction, centre = mean[:, 2:].chunk(2, dim=1)
    return Bound(mean[:, 0], mean[:, 1], by_direction, centre, error)
