"""Draws of outcomes from the joint density p(b) p(y | b)."""

from __future__ import annotations

import torch
from torch import Tensor

from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta

__all__ = ["simulate_panel"]


def simulate_panel(
    model: Model,
    theta: Theta,
    panel: Panel,
    generator: torch.Generator,
    effects: Tensor | None = None,
) -> Tensor:
    """y for every row of a panel, (N,): new b_i ~ N(0, I), or the given ``effects`` (n, k)."""
    ready = model.prepare(theta)
    y = torch.zeros(panel.n_rows, dtype=torch.float64)
    if effects is None:
        effects = torch.randn(panel.n, model.k, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        for block in panel.blocks():
            b, rows = effects[block.subjects], block.rows
            eta = model.mu1(ready, rows) + model.mu2(ready, b, rows)
            draw = model.family.simulate(eta, rows.data, model.extra(ready, rows, b), generator)
            y[block.index[block.mask]] = draw[block.mask]
    return y
