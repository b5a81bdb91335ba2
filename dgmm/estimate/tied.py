"""The deep model that equals the nested classical fit, from which its search begins."""

from __future__ import annotations

import torch

from dgmm.likelihood import Point
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta, part

__all__ = ["tied_decoder"]


def tied_decoder(model: Model, panel: Panel, below: Point, generator: torch.Generator) -> Theta:
    """theta of the deep model that gives the profiles of the nested fit."""
    ready = below.model.prepare(below.theta)
    target = below.model.mu1(ready, below.panel.rows) - below.panel.rows.offset
    seen = panel.rows
    theta: Theta = {"beta": torch.zeros(len(model.names), dtype=torch.float64)}
    columns = [seen.X]
    for network, inputs in zip(model.networks, seen.inputs, strict=True):
        columns.append(network.standardise(inputs)[:, list(network.linear)] * network.unit)
    coefficient = torch.linalg.lstsq(
        torch.cat(columns, dim=1), target[:, None], driver="gelsd"
    ).solution[:, 0]
    first = len(model.names)
    for i, network in enumerate(model.networks, 1):
        weights = network.network.initial(generator, last=0.02)
        weights["skip"] = coefficient[first : first + len(network.linear)]
        first += len(network.linear)
        theta |= {f"dnn{i}.{name}": value for name, value in weights.items()}
    for i, (latent, old) in enumerate(zip(model.latents, below.model.latents, strict=True), 1):
        prefix = f"latent{i}."
        tied, T = part(below.theta, prefix), seen.T[i - 1]
        if latent.neural:
            Lambda = old.loadings(tied)
            tied = latent.from_covariance(Lambda @ Lambda.T, T.T @ T / len(T), generator)
            tied = latent.from_profile(tied, T, target)
        theta |= {f"{prefix}{name}": value for name, value in tied.items()}
    theta["extra"] = below.theta["extra"]
    # what the silent networks leave goes to the linear columns
    rest = target - (model.mu1(model.prepare(theta), seen) - seen.offset)
    theta["beta"] = torch.linalg.lstsq(seen.X @ model.basis, rest[:, None]).solution[:, 0]
    # least squares may differ in the last bit from call to call; rounded, runs repeat exactly, and
    # in any unit of the outcome, of which log sigma alone keeps a trace
    rounded = {name: value.float().double() for name, value in theta.items()}
    return {**rounded, "extra": theta["extra"]}
