"""Missing outcomes given those seen, at a given theta: b | y_observed, then y_missing | b."""

from __future__ import annotations

import torch
from torch import Tensor

from dgmm.mcmc import Proposal, State, independence, random_walk
from dgmm.model import Model
from dgmm.model.simulation import simulate_panel
from dgmm.panel import Block, Panel
from dgmm.parameters import Theta
from dgmm.posterior.proposal import Places, find_places

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
    start: Places | None = None,
) -> tuple[Tensor, Places]:
    """One draw of b_i | y_i at ``theta`` for every subject, (n, k), and where the proposal was.

    Importance resampling from ts, then Metropolis-Hastings steps that remove what error the
    resampling leaves. ``history`` is that of :meth:`Model.history`; a subject without outcomes is
    drawn from the prior. ``start``: the places of the proposal at a theta nearby.
    """
    theta = {name: value.detach() for name, value in theta.items()}
    b = torch.zeros(history.n, model.k, dtype=torch.float64)
    every = []
    for block in history.blocks(cells=3_000_000 // RESAMPLED):
        at = block.subjects
        if start is None:
            found = find_places(model, theta, block)
        else:
            found = start.at(at).followed(model, theta, block)
        b[at] = _posterior_draw(model, theta, block, found, generator)
        every.append((at, found))
    return b, Places.of_all(every)


@torch.no_grad()
def _posterior_draw(
    model: Model, theta: Theta, block: Block, found: Places, generator: torch.Generator
) -> Tensor:
    placed = found.placed
    root, proposal = placed.root, Proposal(placed.mode, placed.root)
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
        state, _ = random_walk(state, log_density, root, generator)
    return state.x[0]


def complete(
    model: Model,
    theta: Theta,
    panel: Panel,
    generator: torch.Generator,
    start: Places | None = None,
) -> tuple[Tensor, Places]:
    """Outcomes of every planned row, (N,), the missing ones drawn from p(y_missing | y_observed).

    The second value, where the proposal was, is a ``start`` for the next call.
    """
    b, found = draw_effects(model, theta, model.history(panel), generator, start)
    drawn = simulate_panel(model, theta, panel, generator, b)
    return torch.where(panel.observed, panel.rows.data.y, drawn), found
