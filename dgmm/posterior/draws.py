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

__all__ = ["complete", "draw_effects", "draw_many"]

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

    See :func:`draw_many`.
    """
    b, found = draw_many(model, theta, history, 1, generator, start)
    return b[0], found


def draw_many(
    model: Model,
    theta: Theta,
    history: Panel,
    size: int,
    generator: torch.Generator,
    start: Places | None = None,
) -> tuple[Tensor, Places]:
    """Draws of b_i | y_i at ``theta`` for every subject, (size, n, k), and where the proposal was.

    Importance resampling from ts, then Metropolis-Hastings steps that remove what error the
    resampling leaves. ``history`` is that of :meth:`Model.history`; a subject without outcomes is
    drawn from the prior. ``start``: the places of the proposal at a theta nearby.
    """
    theta = {name: value.detach() for name, value in theta.items()}
    b = torch.zeros(size, history.n, model.k, dtype=torch.float64)
    every = []
    for block in history.blocks(cells=3_000_000 // max(RESAMPLED, size)):
        at = block.subjects
        if start is None:
            found = find_places(model, theta, block)
        else:
            found = start.at(at).followed(model, theta, block)
        b[:, at] = _posterior_draws(model, theta, block, found, size, generator)
        every.append((at, found))
    return b, Places.of_all(every)


@torch.no_grad()
def _posterior_draws(
    model: Model, theta: Theta, block: Block, found: Places, size: int, generator: torch.Generator
) -> Tensor:
    placed = found.placed
    root, proposal = placed.root, Proposal(placed.mode, placed.root)
    ready = model.prepare(theta)

    def log_density(x: Tensor) -> Tensor:
        return model.log_joint(ready, x, block)

    x = proposal.draw(RESAMPLED, generator)
    weight = log_density(x) - proposal.log_density(x)
    uniform = torch.rand((size, *weight.shape), generator=generator, dtype=torch.float64)
    chosen = (weight - (-uniform.log()).log()).argmax(1)  # the Gumbel form of a weighted choice
    x = x[chosen, torch.arange(chosen.shape[1])]
    state = State(x, log_density(x))
    for _ in range(STEPS):
        state, _ = independence(state, log_density, proposal, generator)
        state, _ = random_walk(state, log_density, root, generator)
    return state.x


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
