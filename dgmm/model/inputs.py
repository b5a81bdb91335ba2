"""Inputs of paths: what they make of the mean, and which rows that takes."""

from __future__ import annotations

import torch
from torch import Tensor

from dgmm.model.density import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta, part

__all__ = ["course", "driven", "kept"]


def driven(model: Model) -> bool:
    """Whether rows without an outcome move the random part of others: by inputs, or as steps."""
    return any(latent.inputs or latent.recursive for latent in model.latents)


def kept(model: Model, panel: Panel) -> Panel:
    """The rows that the outcomes depend on: those seen, and all where inputs move something."""
    return panel.masked_rows() if driven(model) else panel.observed_rows()


def course(model: Model, ready: Theta, panel: Panel) -> Tensor:
    """E mu2 at every row of a panel, (N,): what inputs make of it."""
    found = torch.zeros(panel.n_rows, dtype=torch.float64)
    moving = [i for i, latent in enumerate(model.latents) if latent.inputs]
    for block in panel.whole if moving else ():
        at = (block.index[block.mask],)
        for i in moving:
            weights = part(ready, f"latent{i + 1}.")
            own = model.latents[i].course(weights, block.rows.of_term(i))
            found = found.index_put(at, own[block.mask], accumulate=True)
    return found
