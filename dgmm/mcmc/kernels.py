"""Metropolis-Hastings for many targets at once: C chains of each of n targets in k dimensions.

A kernel leaves every target pi_i invariant: the proposal x' is accepted with probability

    min{1, pi(x') r(x | x') / (pi(x) r(x' | x))},

r the density of the proposal, which cancels for a symmetric random walk and does not for an
independence proposal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

__all__ = ["Independent", "Proposal", "State", "independence", "random_walk", "tune"]

ACCEPTANCE = 0.3
"""Aim of the random walk: best between 0.44 (one dimension) and 0.23 (many)."""

LogDensity = Callable[[Tensor], Tensor]
"""(C, n, k) -> (C, n), up to a constant of each target."""


class State(NamedTuple):
    """Where the chains are, and the log density there."""

    x: Tensor  # (C, n, k)
    log_density: Tensor  # (C, n)


class Independent(Protocol):
    """A density for every target that proposes without looking at the state."""

    def draw(self, chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws, (C, n, k)."""

    def log_density(self, x: Tensor) -> Tensor:
        """Its log density at x (C, n, k) less a constant of each target, (C, n)."""


class Proposal(NamedTuple):
    """A multivariate t around ``mean``: N(mean, root root') with longer tails.

    The tails keep the ratio pi / r bounded, without which a chain can stay at a point for ever.
    """

    mean: Tensor  # (n, k)
    root: Tensor  # (n, k, k)
    df: int = 5

    def draw(self, chains: int, generator: torch.Generator) -> Tensor:
        """Independent draws, (C, n, k)."""
        n, k = self.mean.shape
        e = torch.randn(chains, n, k, generator=generator, dtype=torch.float64)
        # chi2(df) as a sum of squares, which takes the generator where torch's own does not
        normal = torch.randn(self.df, chains, n, generator=generator, dtype=torch.float64)
        e = e / normal.square().mean(0).sqrt()[..., None]
        return self.mean + torch.einsum("nab,cnb->cna", self.root, e)

    def log_density(self, x: Tensor) -> Tensor:
        """Its log density at x (C, n, k) less a constant of each target, (C, n)."""
        gap = (x - self.mean)[..., None]
        e = torch.linalg.solve(self.root.expand(*x.shape, x.shape[-1]), gap)[..., 0]
        return -0.5 * (self.df + x.shape[-1]) * torch.log1p(e.square().sum(-1) / self.df)


def independence(
    state: State, log_density: LogDensity, proposal: Independent, generator: torch.Generator
) -> tuple[State, Tensor]:
    """One step from a proposal that does not depend on the state; who accepted, (C, n) bool."""
    x = proposal.draw(len(state.x), generator)
    new = State(x, log_density(x))
    back = proposal.log_density(state.x) - proposal.log_density(x)
    return _decide(state, new, back, generator)


def random_walk(
    state: State, log_density: LogDensity, root: Tensor, generator: torch.Generator
) -> tuple[State, Tensor]:
    """One symmetric step x' = x + root e, e ~ N(0, I), root (n, k, k); who accepted, (C, n)."""
    e = torch.randn(state.x.shape, generator=generator, dtype=torch.float64)
    x = state.x + torch.einsum("nab,cnb->cna", root, e)
    return _decide(state, State(x, log_density(x)), torch.zeros(()), generator)


def tune(log_scale: Tensor, accepted: Tensor, gain: float) -> Tensor:
    """Move log step lengths (n,) towards the acceptance rate 0.3.

    With a gain that goes to zero the adaptation dies out, and the limit of the chain stays right
    (Andrieu and Thoms 2008, Statistics and Computing 18, 343-373).
    """
    rate = accepted.double().mean(0)
    return (log_scale + gain * (rate - ACCEPTANCE)).clamp(math.log(1e-3), math.log(1e3))


def _decide(
    state: State, new: State, back: Tensor, generator: torch.Generator
) -> tuple[State, Tensor]:
    ratio = new.log_density - state.log_density + back
    uniform = torch.rand(ratio.shape, generator=generator, dtype=torch.float64)
    accepted = uniform.log() < ratio  # a log density of nan or -inf is never accepted
    x = torch.where(accepted[..., None], new.x, state.x)
    return State(x, torch.where(accepted, new.log_density, state.log_density)), accepted
