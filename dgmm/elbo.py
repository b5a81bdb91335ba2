"""ELBO = E_q log p(y | b) - w KL(q || p) - ridge, and the epochs that maximise it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dgmm.encoders import Encoder, context
from dgmm.model import Model
from dgmm.networks import Weights
from dgmm.panel import Block, Panel
from dgmm.parameters import Theta
from dgmm.progress import Progress
from dgmm.quadrature import sobol_gaussian

__all__ = ["Bound", "Schedule", "Trace", "elbo", "evaluate", "train"]


SKELETON = frozenset({"W", "c"})
"""The few weights of an encoder that do the work of many: they learn faster, or the networks
would learn in their place."""


@dataclass(frozen=True)
class Schedule:
    """How the ELBO is maximised."""

    epochs: int = 300
    batch: int = 100  # subjects
    learning_rate: float = 4e-3
    skeleton: float = 25.0  # times the learning rate for the skeleton of the encoder
    skeleton_alone: float = 0.1  # share of the steps before the encoder's networks learn
    pairs: int = 2  # antithetic pairs of draws per subject
    warm_up: float = 0.05  # share of the steps
    kl_anneal: int = 0  # epochs over which the KL weight grows from 0 to 1
    free_bits: float = 0.0  # nats per subject below which the KL is not pushed


@dataclass(frozen=True)
class Trace:
    """ELBO per subject by epoch (at KL weight 1), and the last gradient norm."""

    elbo: tuple[float, ...]
    gradient: float
    epochs: int


@dataclass(frozen=True)
class Bound:
    """ELBO and its parts per subject, (n,) each; ``kl_by_direction`` (n, k)."""

    reconstruction: Tensor
    kl: Tensor
    kl_by_direction: Tensor
    mc_error: float = math.nan  # of the sum over subjects

    @property
    def elbo(self) -> Tensor:
        """reconstruction - KL."""
        return self.reconstruction - self.kl


def elbo(
    model: Model, encoder: Encoder, theta: Theta, phi: Weights, block: Block, e: Tensor
) -> Bound:
    """Per-subject ELBO with draws b = m + R e, e (M, n, k); masked rows contribute nothing."""
    ready = model.prepare(theta)
    q = encoder(phi, context(model, ready, block))
    reconstruction = model.log_likelihood(ready, q.draw(e), block).mean(0)
    return Bound(reconstruction, q.kl(), q.kl_by_direction())


def evaluate(
    model: Model,
    encoder: Encoder,
    theta: Theta,
    phi: Weights,
    panel: Panel,
    seed: int,
    draws: int = 64,
    replicates: int = 4,
) -> Bound:
    """The ELBO of every subject by quasi-random draws; error from independent replicates."""
    reconstruction = torch.zeros(replicates, panel.n, dtype=torch.float64)
    kl = torch.zeros(panel.n, dtype=torch.float64)
    by_direction = torch.zeros(panel.n, model.k, dtype=torch.float64)
    for number in range(replicates):
        rng = np.random.default_rng([seed, 53, number])
        for block in panel.blocks():
            e = sobol_gaussian(len(block.subjects), model.k, draws, rng)
            with torch.no_grad():
                bound = elbo(model, encoder, theta, phi, block, e)
            reconstruction[number, block.subjects] = bound.reconstruction
            kl[block.subjects] = bound.kl
            by_direction[block.subjects] = bound.kl_by_direction
    error = float(reconstruction.sum(1).std() / math.sqrt(replicates))
    return Bound(reconstruction.mean(0), kl, by_direction, error)


def _antithetic(pairs: int, n: int, k: int, generator: torch.Generator) -> Tensor:
    half = torch.randn(pairs, n, k, generator=generator, dtype=torch.float64)
    return torch.cat([half, -half])


def _optimiser(
    theta: Theta, phi: Weights, schedule: Schedule, fixed_theta: bool
) -> torch.optim.Adam:
    """Adam with three groups: the skeleton of the encoder, its networks, theta."""
    groups = (
        ("skeleton", [w for name, w in phi.items() if name in SKELETON]),
        ("corrections", [w for name, w in phi.items() if name not in SKELETON]),
        ("theta", [] if fixed_theta else list(theta.values())),
    )
    return torch.optim.Adam(
        [{"params": weights, "name": name} for name, weights in groups if weights],
        lr=schedule.learning_rate,
    )


def _set_rates(optimiser: torch.optim.Adam, schedule: Schedule, done: float, steps: int) -> None:
    """Linear warm-up, then cosine decay to zero; ``done`` is the share of the steps behind."""
    rise = max(1.0 / steps, schedule.warm_up)
    if done < rise:
        share = (done + 1.0 / steps) / rise
    else:
        share = 0.5 * (1 + math.cos(math.pi * (done - rise) / max(1.0 / steps, 1 - rise)))
    for group in optimiser.param_groups:
        factor = 1.0
        if group["name"] == "skeleton":
            factor = schedule.skeleton
        elif group["name"] == "corrections" and done < schedule.skeleton_alone:
            factor = 0.0
        group["lr"] = schedule.learning_rate * factor * min(share, 1.0)


@contextmanager
def one_thread() -> Iterator[None]:
    """Mini-batches are small: a second thread costs more in waiting than it computes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@one_thread()
def train(
    model: Model,
    encoder: Encoder,
    theta: Theta,
    phi: Weights,
    panel: Panel,
    schedule: Schedule,
    generator: torch.Generator,
    *,
    fixed_theta: bool = False,
    progress: Progress | None = None,
) -> tuple[Theta, Weights, Trace]:
    """Adam on the ELBO over mini-batches of subjects; the ridge on the scale of the whole sample.

    ``fixed_theta`` trains the encoder alone.
    """
    theta = {name: value.detach().clone() for name, value in theta.items()}
    phi = {name: value.detach().clone().requires_grad_() for name, value in phi.items()}
    if not fixed_theta:
        theta = {name: value.requires_grad_() for name, value in theta.items()}
    moving = [*phi.values(), *([] if fixed_theta else theta.values())]
    optimiser = _optimiser(theta, phi, schedule, fixed_theta)
    batches = max(1, round(panel.n / schedule.batch))
    steps, history, norm = schedule.epochs * batches, [], math.nan
    for epoch in range(schedule.epochs):
        total, order = 0.0, torch.randperm(panel.n, generator=generator)
        weight = min(1.0, (epoch + 1) / schedule.kl_anneal) if schedule.kl_anneal else 1.0
        for number, subjects in enumerate(torch.tensor_split(order, batches)):
            _set_rates(optimiser, schedule, (epoch * batches + number) / steps, steps)
            block = panel.block(subjects)
            e = _antithetic(schedule.pairs, len(subjects), model.k, generator)
            bound = elbo(model, encoder, theta, phi, block, e)
            kl = bound.kl.clamp(min=schedule.free_bits) if schedule.free_bits else bound.kl
            gain = (bound.reconstruction - weight * kl).mean()
            loss = model.penalty(theta) / panel.n - gain
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = float(torch.nn.utils.clip_grad_norm_(moving, 100.0))
            optimiser.step()
            total += float(bound.elbo.detach().sum())
        history.append(total / panel.n)
        if progress is not None:
            progress.update(epoch + 1, elbo=total, gradient=norm)
    freed = {name: value.detach() for name, value in theta.items()}
    learnt = {name: value.detach() for name, value in phi.items()}
    return freed, learnt, Trace(tuple(history), norm, schedule.epochs)
