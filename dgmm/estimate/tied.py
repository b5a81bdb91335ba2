"""The deep model that equals the nested classical fit, from which its search begins."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dgmm.likelihood import Point
from dgmm.model import Model
from dgmm.outcomes import Longitudinal
from dgmm.panel import Panel, Rows
from dgmm.parameters import Theta, part

__all__ = ["tied_decoder"]


def tied_decoder(model: Model, panel: Panel, below: Point, generator: torch.Generator) -> Theta:
    """theta of the deep model that gives the profiles of the nested fit."""
    ready, every = below.model.prepare(below.theta), [one.rows for one in panel.panels]
    targets = [
        outcome.mu1(ready, own.rows) - own.rows.offset
        for outcome, own in zip(below.model.outcomes, below.panel.panels, strict=True)
    ]
    theta: Theta = {}
    for outcome, rows, target in zip(model.outcomes, every, targets, strict=True):
        theta |= _fixed_networks(outcome, rows, target, generator)
    for i, (latent, old) in enumerate(zip(model.latents, below.model.latents, strict=True)):
        prefix = f"latent{i + 1}."
        tied = part(below.theta, prefix)
        if latent.neural:
            Lambda, first = old.loadings(tied), model.entries[i][0].outcome
            tied = latent.from_covariance(Lambda @ Lambda.T, _gram(model, every, i), generator)
            tied = latent.from_profile(tied, every[first].T[i], targets[first])
        theta |= {f"{prefix}{name}": value for name, value in tied.items()}
    extra = {f"{one.key}extra": below.theta[f"{one.key}extra"] for one in model.outcomes}
    theta |= extra
    # what the silent networks leave goes to the linear columns
    ready = model.prepare(theta)
    for outcome, rows, target in zip(model.outcomes, every, targets, strict=True):
        rest = target - (outcome.mu1(ready, rows) - rows.offset)
        beta = torch.linalg.lstsq(rows.X @ outcome.basis, rest[:, None]).solution[:, 0]
        theta[f"{outcome.key}beta"] = beta
    # least squares may differ in the last bit from call to call; rounded, runs repeat exactly, and
    # in any unit of the outcome, of which log sigma alone keeps a trace
    rounded = {name: value.float().double() for name, value in theta.items()}
    return {**rounded, **extra}


def _fixed_networks(
    outcome: Longitudinal, rows: Rows, target: Tensor, generator: torch.Generator
) -> Theta:
    """Nearly silent networks with the skips of least squares, beta zero."""
    theta: Theta = {f"{outcome.key}beta": torch.zeros(len(outcome.names), dtype=torch.float64)}
    columns = [rows.X]
    for network, inputs in zip(outcome.networks, rows.inputs, strict=True):
        columns.append(network.standardise(inputs)[:, list(network.linear)] * network.unit)
    coefficient = torch.linalg.lstsq(
        torch.cat(columns, dim=1), target[:, None], driver="gelsd"
    ).solution[:, 0]
    first = len(outcome.names)
    for i, network in enumerate(outcome.networks, 1):
        weights = network.network.initial(generator, last=0.02)
        weights["skip"] = coefficient[first : first + len(network.linear)]
        first += len(network.linear)
        theta |= {f"{outcome.key}dnn{i}.{name}": value for name, value in weights.items()}
    return theta


def _gram(model: Model, every: Sequence[Rows], i: int) -> Tensor:
    """Mean of T'T of a latent structure, outcome by outcome in units of their predictors."""
    found = []
    for entry in model.entries[i]:
        T, unit = every[entry.outcome].T[i], model.outcomes[entry.outcome].unit
        found.append((model.unit / unit) ** 2 * (T.T @ T / len(T)))
    return torch.block_diag(*found)
