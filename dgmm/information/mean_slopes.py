"""mu1 to first order in its parameters m = (beta, weights of the fixed networks).

    d mu1 / d beta = X basis,     d mu1 / d w = d f(x; w) / d w - C d gamma / d w,

gamma = (C'C)^-1 C'f over the reference sample, by which a network is centred and orthogonal to the
linear columns that share its covariates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dgmm.model import Model
from dgmm.networks import FixedNetwork
from dgmm.panel import Rows
from dgmm.parameters import Packing, Theta, part

__all__ = ["MeanSlopes", "mean_packing"]

CELLS = 4_000_000
"""Largest number of (row, weight) entries held at once."""


def mean_packing(model: Model) -> Packing:
    """Names and shapes of m: beta, then every network's skip and layers."""
    packing = model.packing
    return packing.only([n for n in packing.shapes if n == "beta" or n.startswith("dnn")])


@dataclass(frozen=True)
class MeanSlopes:
    """d mu1 / d m at a theta, for any rows."""

    model: Model
    theta: Theta
    centre_slopes: tuple[Tensor, ...]  # per network d gamma / d w, (c, P_i)

    @classmethod
    def at(cls, model: Model, theta: Theta) -> MeanSlopes:
        """What follows from the reference sample, once for all rows."""
        theta = {name: value.detach() for name, value in theta.items()}
        found = []
        for i, network in enumerate(model.networks):
            C = network.columns(model.reference.X)
            inputs = model.reference.inputs[i]
            weights = part(theta, f"dnn{i + 1}.")
            crossed = torch.zeros(C.shape[1], _size(network), dtype=torch.float64)
            for at in runs(len(C), _size(network)):
                crossed += C[at].T @ raw_slopes(network, weights, inputs[at])
            found.append(torch.linalg.solve(C.T @ C, crossed))
        return cls(model, theta, tuple(found))

    def network(self, i: int, rows: Rows) -> Tensor:
        """d (centred output of the i-th network) / d (its skip and layers), (N, P_i)."""
        network = self.model.networks[i]
        slopes = raw_slopes(network, part(self.theta, f"dnn{i + 1}."), rows.inputs[i])
        return slopes - network.columns(rows.X) @ self.centre_slopes[i]

    def jacobian(self, rows: Rows) -> Tensor:
        """d mu1 / d m, (N, P_m), in the order of :func:`mean_packing`."""
        networks = [self.network(i, rows) for i in range(len(self.model.networks))]
        return torch.cat([rows.X @ self.model.basis, *networks], dim=1)


def runs(rows: int, width: int) -> Iterator[slice]:
    """Consecutive rows, a bounded number of entries at a time."""
    step = max(1, CELLS // max(width, 1))
    for first in range(0, rows, step):
        yield slice(first, min(first + step, rows))


def raw_slopes(network: FixedNetwork, weights: Theta, inputs: Tensor) -> Tensor:
    """d f / d w before centring at inputs (N, r), (N, P_i)."""

    def value(held: Theta, x: Tensor) -> Tensor:
        return network.raw(held, x)

    each = torch.func.vmap(torch.func.grad(value), in_dims=(None, 0))(weights, inputs)
    return torch.cat([each[name].reshape(len(inputs), -1) for name in network.shapes()], dim=1)


def _size(network: FixedNetwork) -> int:
    return Packing(network.shapes()).size
