"""Missing outcomes given those seen, at a given theta: b | y_observed, then y_missing | b."""

from __future__ import annotations

import torch
from torch import Tensor

from dgmm.mcmc import Proposal, State, independence, random_walk
from dgmm.model import Model
from dgmm.model.simulation import simulate_panel
from dgmm.panel import Block, Panel
from dgmm.parameters import Theta
from dgmm.posterior.modes import find_modes

__all__ = ["complete", "draw_effects"]

RESAMPLED = 64
"""Draws of which one, chosen by its importance weight, starts a chain."""

STEPS = 8
"""Metropolis-Hastings steps that follow, each a pair (independence, random walk)."""


def draw_effects(
    model: Model,
    theta: Theta,
    history: Panel,
    generator: torch.Generator,
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One draw of b_i | y_i at ``theta`` for every subject, (n, k), and the modes, (n, k).

    Importance resampling from a t around the mode, then Metropolis-Hastings steps that remove what
    error the resampling leaves. ``history`` is that of :meth:`Model.history`; a subject without
    outcomes is drawn from the prior. ``start``: where Newton begins.
    """
    theta = {name: value.detach() for name, value in theta.items()}
    b = torch.zeros(history.n, model.k, dtype=torch.float64)
    modes = torch.zeros_like(b)
    for block in history.blocks(cells=3_000_000 // RESAMPLED):
        first = None if start is None else start[block.subjects]
        anchor = find_modes(model, theta, block, first)
        proposal = Proposal(anchor.mode, anchor.root)
        b[block.subjects] = _posterior_draw(model, theta, block, proposal, generator)
        modes[block.subjects] = anchor.mode
    return b, modes


@torch.no_grad()
def _posterior_draw(
    model: Model, theta: Theta, block: Block, proposal: Proposal, generator: torch.Generator
) -> Tensor:
    ready = model.prepare(theta)

    def log_density(x: Tensor) -> Tensor:
        return model.log_joint(ready, x, block)

    x = proposal.draw(RESAMPLED, generator)
    weight = log_density(x) - proposal.log_density(x)
    uniform = torch.rand(weight.shape, generator=generator, dtype=torch.float64)
    chosen = (weight - (-uniform.log()).log()).argmax(0)  # the Gumbel form of a weighted choice
    x = x[chosen, torch.arange(len(chosen))][None]
    state = State(x, log_density(x))
    for _ in range(STEPS):
        state, _ = independence(state, log_density, proposal, generator)
        state, _ = random_walk(state, log_density, proposal.root, generator)
    return state.x[0]


def complete(
    model: Model,
    theta: Theta,
    panel: Panel,
    generator: torch.Generator,
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Outcomes of every planned row, (N,), the missing ones drawn from p(y_missing | y_observed).

    The second value holds the modes, a ``start`` for the next call.
    """
    b, modes = draw_effects(model, theta, model.history(panel), generator, start)
    drawn = simulate_panel(model, theta, panel, generator, b)
    return torch.where(panel.observed, panel.rows.data.y, drawn), modes
