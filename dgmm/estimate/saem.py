"""Stochastic approximation EM with an amortised proposal: the stage behind missing="saem".

One iteration k, at theta_k:

 S  several persistent chains b_i per subject, whose target is p(b_i | y_observed; theta_k): an
    independence step from the encoder, its density in the ratio, then an adaptive random walk
 I  y_missing ~ p(y | b_i; theta_k) completes what the dense encoder sees, and only that
 A  theta_{k+1} = theta_k + gain_k G^-1 g, g the mean over chains of
    d log p(y_observed | b; theta_k) / d theta
 E  one step of Adam for the encoder, on the ELBO of the observed outcomes

The chains of a subject form two halves, and the encoder that proposes for one half sees outcomes
imputed from the other. An imputation made from a chain's own b would tell the encoder where that
chain is, and the target would no longer be invariant: imputations would confirm themselves.

The gain is 1 in the first phase and decreases in the second, over which the iterates are averaged;
G is an estimate of the information from the same chains. Imputed outcomes enter neither the
likelihood nor its derivatives.

Delyon, Lavielle and Moulines (1999), Annals of Statistics 27, 94-128; Gu and Kong (1998), PNAS 95,
7270-7274; Polyak and Juditsky (1992), SIAM J. Control and Optimization 30, 838-855.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from dgmm.encoders import Encoder, context
from dgmm.estimate.completed import Views, teach, views, with_placeholders
from dgmm.estimate.control import Control
from dgmm.estimate.records import Saem
from dgmm.likelihood import mean_scores
from dgmm.likelihood.polish import damping, kappa_vector, metric
from dgmm.mcmc import Proposal, State, independence, random_walk, tune
from dgmm.model import Model
from dgmm.model.simulation import simulate_panel
from dgmm.networks import Weights
from dgmm.panel import Block, Panel
from dgmm.parameters import Packing, Theta
from dgmm.runtime.parallel import one_thread
from dgmm.runtime.progress import Progress

__all__ = ["saem"]

EXPONENT = 0.6
"""gain = (1 + iterations of the second phase)^-0.6: averaging needs more than 1/2, less than 1."""

DEEP_GAIN = 0.1
"""Gain of the first phase of a model with networks, which the ELBO has brought near already."""

REFRESH = 10
"""Iterations of the first phase after which the information is estimated again."""

LONGEST = 0.3
"""Longest change of a parameter in one step, on the unit-free scale of theta: a variance that one
bad step takes to zero comes back slowly, for the gradient of its logarithm vanishes there."""

BATCHES = 20
"""Batches of iterates from which the Monte Carlo error of their average is estimated."""


@dataclass
class _Chains:
    """Two halves of chains for every subject, and what one half imputed for the other."""

    panel: Panel  # planned rows, missing outcomes are placeholders
    observed: Tensor  # (N,)
    x: list[Tensor]  # per half (H, n, k)
    log_scale: Tensor  # (n,) of the random walk
    rates: list[tuple[float, float]] = field(default_factory=list)

    def blocks(self, y: Tensor) -> Iterator[Views]:
        """All subjects in blocks, completed by ``y`` (N,)."""
        chains = 2 * len(self.x[0])
        for block in self.panel.blocks(cells=3_000_000 // chains):
            yield views(block, y, self.observed)


def start_chains(model: Model, panel: Panel, chains: int, generator: torch.Generator) -> _Chains:
    """Chains that begin at the prior."""
    half = (chains // 2, panel.n, model.k)
    x = [torch.randn(half, generator=generator, dtype=torch.float64) for _ in range(2)]
    scale = torch.zeros(panel.n, dtype=torch.float64)
    return _Chains(with_placeholders(panel), panel.observed, x, scale)


def impute_from(
    model: Model, theta: Theta, chains: _Chains, half: int, generator: torch.Generator
) -> Tensor:
    """y (N,): observed outcomes, missing ones drawn given b of the first chain of a half."""
    drawn = simulate_panel(model, theta, chains.panel, generator, chains.x[half][0])
    return torch.where(chains.observed, chains.panel.rows.data.y, drawn)


@torch.no_grad()
def sweep(
    model: Model,
    theta: Theta,
    encoder: Encoder,
    phi: Weights,
    chains: _Chains,
    gain: float,
    generator: torch.Generator,
) -> Tensor:
    """One independence and one random walk step of every chain; the last imputation (N,)."""
    ready = model.prepare(theta)
    jumped, walked = [], []
    for half in (0, 1):
        y = impute_from(model, theta, chains, 1 - half, generator)
        x = torch.empty_like(chains.x[half])
        for full, seen, imputed in chains.blocks(y):
            at = full.subjects
            q = encoder(phi, context(model, ready, full, imputed))

            def log_density(b: Tensor, seen: Block = seen) -> Tensor:
                return model.log_joint(ready, b, seen)

            old = chains.x[half][:, at]
            state = State(old, log_density(old))
            state, jump = independence(state, log_density, Proposal(q.mean, q.root), generator)
            root = q.root * chains.log_scale[at].exp()[:, None, None]
            state, walk = random_walk(state, log_density, root, generator)
            chains.log_scale[at] = tune(chains.log_scale[at], walk, gain)
            x[:, at] = state.x
            jumped.append(jump.double().flatten())
            walked.append(walk.double().flatten())
        chains.x[half] = x
    chains.rates.append((float(torch.cat(jumped).mean()), float(torch.cat(walked).mean())))
    return y


def gradient(model: Model, theta: Theta, chains: _Chains, y: Tensor) -> Theta:
    """d / d theta of the mean over chains of log p(y_observed | b; theta), less the ridge."""
    leaves = {name: value.detach().requires_grad_() for name, value in theta.items()}
    ready = model.prepare(leaves)
    total = -model.penalty(leaves)
    for full, seen, _ in chains.blocks(y):
        b = torch.cat([x[:, full.subjects] for x in chains.x])
        total = total + model.log_likelihood(ready, b, seen).mean(0).sum()
    slopes = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return {
        name: torch.zeros_like(leaf) if slope is None else slope
        for (name, leaf), slope in zip(leaves.items(), slopes, strict=True)
    }


def scores(model: Model, theta: Theta, chains: _Chains, y: Tensor) -> Tensor:
    """Per subject the mean over chains of d log p(y_i | b; theta) / d theta, (n, P)."""

    def draws() -> Iterator[tuple[Block, Tensor, Tensor]]:
        for full, seen, _ in chains.blocks(y):
            b = torch.cat([x[:, full.subjects] for x in chains.x])
            yield seen, b, torch.zeros(b.shape[:2], dtype=torch.float64)

    return mean_scores(model, theta, draws(), chains.panel.n)


@one_thread()
def saem(
    model: Model,
    encoder: Encoder,
    theta: Theta,
    phi: Weights,
    panel: Panel,
    control: Control,
    generator: torch.Generator,
    progress: Progress | None = None,
) -> tuple[Theta, Weights, Saem]:
    """Averaged iterates, the encoder, and what happened on the way; see the module."""
    packing, burn = model.packing, control.saem_iterations // 3
    chains = start_chains(model, panel, control.chains, generator)
    theta = {name: value.detach().clone() for name, value in theta.items()}
    phi = {name: value.detach().clone().requires_grad_() for name, value in phi.items()}
    optimiser = torch.optim.Adam(list(phi.values()))
    kappa = kappa_vector(model, packing)
    memory: Tensor | None = None
    x, path, targets = packing.pack(theta), [], []
    for k in range(control.saem_iterations):
        gain = _gain(model, k, burn)
        y = sweep(model, theta, encoder, phi, chains, min(1.0, 10 * gain), generator)
        if k <= burn and k % REFRESH == 0:
            new = scores(model, theta, chains, y)
            memory = new if memory is None else memory + 0.3 * (new - memory)
            factor = _information_root(model, packing, memory, kappa)
        step = _step(factor, packing.pack(gradient(model, theta, chains, y)))
        targets.append(x + step)
        x = x + gain * step
        theta = packing.unpack(x)
        path.append(x)
        batch = torch.randperm(panel.n, generator=generator)[: 2 * control.batch]
        some, rate = views(chains.panel.block(batch), y, chains.observed), math.sqrt(min(1.0, gain))
        rate *= control.learning_rate
        teach(model, encoder, theta, phi, some, optimiser, rate, control.pairs, generator)
        if progress is not None:
            progress.update(k + 1, elbo=None, gradient=gain)
    average = packing.unpack(torch.stack(path[burn:]).mean(0))
    learnt = {name: value.detach() for name, value in phi.items()}
    account = _account(model, torch.stack(path), torch.stack(targets), chains, burn)
    return average, learnt, account


def _gain(model: Model, k: int, burn: int) -> float:
    first = 1.0 if model.linear else DEEP_GAIN
    return first * (1.0 if k < burn else (1 + k - burn) ** -EXPONENT)


def _information_root(model: Model, packing: Packing, memory: Tensor, kappa: Tensor) -> np.ndarray:
    return metric(memory, kappa + damping(packing), 1e-10 if model.linear else 1e-3)


def _step(factor: np.ndarray, slope: Tensor) -> Tensor:
    """G^-1 slope for G = C C', shortened where a parameter would move too far."""
    step = np.linalg.solve(factor.T, np.linalg.solve(factor, slope.numpy()))
    largest = float(np.abs(step).max(initial=0.0))
    return torch.from_numpy(step * min(1.0, LONGEST / max(largest, 1e-300)))


def _account(model: Model, path: Tensor, targets: Tensor, chains: _Chains, burn: int) -> Saem:
    """What is kept: trace and error of the linear coefficients, acceptance in the second phase.

    The error of the average is that of the mean of the full steps' targets theta_k + G^-1 g_k:
    iterates depend on each other over many iterations, targets only as far as the chains do.
    """
    at = model.packing.positions(["beta"])
    beta, second = path[:, at] @ model.basis.T, targets[burn:][:, at] @ model.basis.T
    size = len(second) // BATCHES
    means = second[len(second) - size * BATCHES :].reshape(BATCHES, size, -1).mean(1)
    rates = torch.tensor(chains.rates[burn:], dtype=torch.float64).mean(0)
    return Saem(
        names=model.names,
        trace=beta,
        burn=burn,
        mc_error=means.std(0) / math.sqrt(BATCHES),
        acceptance=(float(rates[0]), float(rates[1])),
        chains=2 * len(chains.x[0]),
    )
