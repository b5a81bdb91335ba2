"""Missing outcomes given those seen, at a given theta: b | y_observed, then y_missing | b."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dgmm.mcmc import Independent, Proposal, State, independence, random_walk
from dgmm.model import Model
from dgmm.model.simulation import simulate_panel
from dgmm.panel import Block, Panel
from dgmm.parameters import Theta
from dgmm.posterior.mixture import UNITS, Mixture, shared_out
from dgmm.posterior.proposal import find_components
from dgmm.posterior.several import Components

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
    start: Components | None = None,
) -> tuple[Tensor, Components]:
    """One draw of b_i | y_i at ``theta`` for every subject, (n, k), and where the proposal was.

    Importance resampling from ts around the modes, then Metropolis-Hastings steps that remove what
    error the resampling leaves. ``history`` is that of :meth:`Model.history`; a subject without
    outcomes is drawn from the prior. ``start``: the components at a theta nearby.
    """
    theta = {name: value.detach() for name, value in theta.items()}
    b = torch.zeros(history.n, model.k, dtype=torch.float64)
    every = []
    for block in history.blocks(cells=3_000_000 // RESAMPLED):
        at = block.subjects
        if start is None:
            found = find_components(model, theta, block)
        else:
            found = start.at(at).followed(model, theta, block)
        b[at] = _posterior_draw(model, theta, block, found, generator)
        every.append((at, found))
    return b, Components.of_all(every)


class _Several(NamedTuple):
    """A mixture of ts around several places, for an independence step."""

    around: Mixture
    kernel: Proposal  # the t of every component, around zero

    @classmethod
    def of(cls, found: Components) -> _Several:
        mean, _, root, log_det, *_ = found.anchor
        share = shared_out(found.mass, UNITS) / UNITS
        zero, one = torch.zeros_like(mean[0]), torch.eye(mean.shape[-1], dtype=mean.dtype)
        kernel = Proposal(zero, one.expand_as(root[0]))
        return cls(Mixture(mean, root, log_det, share.log()), kernel)

    def draw(self, chains: int, generator: torch.Generator) -> Tensor:
        e = self.kernel.draw(chains, generator)
        uniform = torch.rand(e.shape[:2], generator=generator, dtype=torch.float64)
        ends = self.around.log_share.exp().cumsum(0)[:-1]
        return self.around.at(e, (uniform >= ends[:, None]).sum(0))

    def log_density(self, x: Tensor) -> Tensor:
        return self.around.log_density(x, self.kernel.log_density)


def _proposal(found: Components) -> Independent:
    """A t around one mode, ts around several places."""
    if len(found.mass) > 1:
        return _Several.of(found)
    return Proposal(found.anchor.mode[0], found.anchor.root[0])


@torch.no_grad()
def _posterior_draw(
    model: Model, theta: Theta, block: Block, found: Components, generator: torch.Generator
) -> Tensor:
    root, proposal = found.anchor.root[0], _proposal(found)
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
    start: Components | None = None,
) -> tuple[Tensor, Components]:
    """Outcomes of every planned row, (N,), the missing ones drawn from p(y_missing | y_observed).

    The second value, where the proposal was, is a ``start`` for the next call.
    """
    b, found = draw_effects(model, theta, model.history(panel), generator, start)
    drawn = simulate_panel(model, theta, panel, generator, b)
    return torch.where(panel.observed, panel.rows.data.y, drawn), found
