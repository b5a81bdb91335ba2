"""From a design to the model: bases, networks, latent structures, penalties."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dgmm.design import Design
from dgmm.families import Family
from dgmm.latent import build as build_latent
from dgmm.model.density import Model
from dgmm.model.structure import Entry
from dgmm.networks import Dense, FixedNetwork, Reference
from dgmm.networks.fixed import new_directions
from dgmm.numerics.bases import orthonormal, whitening
from dgmm.numerics.triangle import triangle
from dgmm.outcomes import Longitudinal, PartPredictor

__all__ = ["START_RIDGE", "build_model", "orthonormal_basis"]

START_RIDGE = 1.0
"""Penalty of a network on the fixed side before it is chosen by evidence."""


def build_model(design: Design, family: Family, unit: float, ridge: float | None = None) -> Model:
    """The model of a design; ``unit`` is the scale of the linear predictor (residual SD, or 1).

    ``ridge`` holds for every network without its own ridge=; None leaves those to the fit,
    with START_RIDGE to begin with.
    """
    X = torch.from_numpy(design.fixed.matrix)
    basis = _basis(design.fixed.triangle, len(X), unit)
    latents = tuple(build_latent(block, unit) for block in design.latents)
    general = START_RIDGE if ridge is None else ridge
    ridges = tuple(
        (latent.ridge if ridge is None else ridge)
        if block.term.options.get("ridge") is None
        else float(block.term.options["ridge"])
        for block, latent in zip(design.latents, latents, strict=True)
    )
    networks = tuple(_fixed_network(design, i, unit, general) for i in range(len(design.networks)))
    own = {f"dnn{i}": block.term.ridge for i, block in enumerate(design.networks, 1)}
    own |= {
        f"latent{i}": block.term.options.get("ridge")
        for i, (block, latent) in enumerate(zip(design.latents, latents, strict=True), 1)
        if latent.penalised
    }
    parts = tuple(
        PartPredictor(name, _modelled(family, name), tuple(columns.names))
        for name, columns in design.parts.items()
    )
    where = {"": 0, **{one.name: one.position + 1 for one in parts}}
    free = tuple(name for name, given in own.items() if ridge is None and given is None)
    inputs = tuple(torch.from_numpy(block.columns.matrix) for block in design.networks)
    outcome = Longitudinal(
        family, tuple(design.fixed.names), basis, unit, networks, parts, Reference(X, inputs)
    )
    entries = tuple((Entry(0, where[block.term.target]),) for block in design.latents)
    return Model((outcome,), latents, entries, ridges, free, _whitener(design))


MODELLED = {
    "zi": "zero-inflation",
    "oi": "share of the upper end",
    "dispersion": "dispersion parameter",
}


def _modelled(family: Family, part: str) -> int:
    """Position of the extra parameter that zi=, oi= or dispersion= is about."""
    parameter = family.modelled(part)
    if parameter is None:
        what = MODELLED[part]
        raise ValueError(f"{part}= models the {what} of a family; {family.name!r} has none")
    return family.extra.index(parameter)


def _whitener(design: Design) -> Tensor:
    """K, symmetric, with mean (T K)'(T K) = I: time bases of the encoder without collinearity."""
    blocks = [torch.from_numpy(block.columns.matrix) for block in design.latents]
    T = blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)
    return whitening(T)


def _fixed_network(design: Design, i: int, unit: float, ridge: float) -> FixedNetwork:
    block = design.networks[i]
    term, inputs = block.term, torch.from_numpy(block.columns.matrix)
    own = frozenset().union(*block.columns.variables)
    shared = tuple(j for j, used in enumerate(design.fixed.variables) if used and used <= own)
    spread = inputs.std(0, correction=0)
    spread = torch.where(spread > 0, spread, torch.ones_like(spread))
    X = torch.from_numpy(design.fixed.matrix)
    spanned = torch.cat([torch.ones_like(X[:, :1]), X[:, list(shared)]], dim=1)
    return FixedNetwork(
        term.text,
        tuple(block.columns.names),
        Dense((inputs.shape[1], *term.hidden, 1), term.activation, bias=False, fan_in=True),
        inputs.mean(0),
        spread,
        shared,
        new_directions(spanned, (inputs - inputs.mean(0)) / spread),
        unit,
        ridge if term.ridge is None else float(term.ridge),
    )


def orthonormal_basis(X: Tensor, unit: float) -> Tensor:
    """(p, p): X basis / unit has orthonormal columns of mean square 1.

    Every coefficient on it is of order one.
    """
    return _basis(triangle(X.numpy()), len(X), unit)


def _basis(R: np.ndarray, rows: int, unit: float) -> Tensor:
    return unit * math.sqrt(rows) * orthonormal(torch.from_numpy(R))
