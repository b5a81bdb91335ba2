"""A model whose networks stand on the fixed side, taken apart:

    eta = offset + X~ beta~ + layers(w) + T Lambda b,

X~ the linear columns with the skips of the networks, layers(w) the centred networks without their
skips. Without layers(w) it is a classical model, for which everything exists already; with w held,
layers(w) is an offset.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dgmm.model import FixedNetwork, Model, Reference
from dgmm.networks import Weights
from dgmm.panel import Panel, Rows
from dgmm.parameters import Packing, Theta, part

__all__ = ["Split", "fixed_only", "take_apart"]


def fixed_only(model: Model) -> bool:
    """Networks on the fixed side alone: the random part is linear in b."""
    return bool(model.networks) and all(latent.linear for latent in model.latents)


@dataclass(frozen=True)
class _Layers:
    """One network without its skip: f - C gamma at the rows, gamma from a reference sample."""

    network: FixedNetwork
    z: Tensor  # (N, r) standardised inputs
    C: Tensor  # (N, c)
    z_reference: Tensor | None  # None where the rows themselves are the reference
    project: Tensor  # (c, R): f at the reference -> gamma

    @classmethod
    def of(cls, network: FixedNetwork, i: int, rows: Rows, reference: Reference) -> _Layers:
        inputs = reference.inputs[i]
        C = network.columns(reference.X)
        own = (
            len(inputs) == len(rows.inputs[i])
            and torch.equal(inputs, rows.inputs[i])
            and torch.equal(C, network.columns(rows.X))
        )
        return cls(
            network,
            network.standardise(rows.inputs[i]),
            network.columns(rows.X),
            None if own else network.standardise(inputs),
            torch.linalg.solve(C.T @ C, C.T),
        )

    def centred(self, f: Tensor, at_reference: Tensor) -> Tensor:
        return f - self.C @ (self.project @ at_reference)

    def effect(self, weights: Weights) -> Tensor:
        f = self._output(weights, self.z)
        other = self.z_reference
        return self.centred(f, f if other is None else self._output(weights, other))

    def _output(self, weights: Weights, z: Tensor) -> Tensor:
        return self.network.unit * self.network.network(weights, z)[:, 0]

    def jacobian(self, weights: Weights) -> Tensor:
        J = self._slope(weights, self.z)
        other = self.z_reference
        return self.centred(J, J if other is None else self._slope(weights, other))

    def _slope(self, weights: Weights, z: Tensor) -> Tensor:
        return self.network.unit * self.network.network.weight_jacobian(weights, z)

    def skips(self) -> Tensor:
        """The columns of the skip, (N, s)."""
        at = list(self.network.linear)
        z = self.network.unit * self.z[:, at]
        other = self.z_reference
        return self.centred(z, z if other is None else self.network.unit * other[:, at])


@dataclass(frozen=True)
class Split:
    """See the module: ``classical`` on ``panel`` with :meth:`effect` as a further offset."""

    model: Model
    classical: Model  # linear columns and skips, no networks
    panel: Panel  # with the columns X~
    layers: tuple[_Layers, ...]
    packing: Packing  # of w: the layers of all networks

    def effect(self, w: Tensor) -> Tensor:
        """layers(w) at the rows, (N,)."""
        theta = self.packing.unpack(w)
        total = torch.zeros(self.panel.n_rows, dtype=torch.float64)
        for i, one in enumerate(self.layers, 1):
            total = total + one.effect(part(theta, f"dnn{i}."))
        return total

    def jacobian(self, w: Tensor) -> Tensor:
        """d layers / d w, (N, P)."""
        theta = self.packing.unpack(w)
        blocks = [one.jacobian(part(theta, f"dnn{i}.")) for i, one in enumerate(self.layers, 1)]
        return torch.cat(blocks, dim=1)

    def kappa(self, model: Model) -> Tensor:
        """The ridge of every layer weight under the penalties of ``model``, (P,)."""
        ridge = model.ridge()
        shapes = self.packing.shapes.items()
        return self.packing.pack({name: torch.full(s, ridge[name]).double() for name, s in shapes})

    def inner(self, theta: Theta) -> Theta:
        """The parameters of the classical model: beta~ holds the skips."""
        names = range(1, len(self.layers) + 1)
        skips = [theta[f"dnn{i}.skip"] for i in names]
        rest = {name: v for name, v in theta.items() if not name.startswith("dnn")}
        return {**rest, "beta": torch.cat([theta["beta"], *skips])}

    def theta(self, inner: Theta, w: Tensor) -> Theta:
        """theta of the whole model."""
        p = len(self.model.names)
        sizes = [len(one.network.linear) for one in self.layers]
        beta, *skips = torch.split(inner["beta"], [p, *sizes])
        named = {f"dnn{i}.skip": skip for i, skip in enumerate(skips, 1)}
        found = {**inner, "beta": beta, **named, **self.packing.unpack(w)}
        return {name: found[name] for name in self.model.packing.shapes}


def take_apart(model: Model, panel: Panel) -> Split:
    """Take a model apart over the rows of a panel."""
    rows = panel.rows
    layers = tuple(
        _Layers.of(network, i, rows, model.reference) for i, network in enumerate(model.networks)
    )
    skips = [one.skips() for one in layers]
    X = torch.cat([rows.X, *skips], dim=1)
    names = tuple(f"skip {i}" for i in range(X.shape[1] - len(model.names)))
    eye = torch.eye(len(names), dtype=torch.float64)
    classical = replace(
        model,
        names=(*model.names, *names),
        basis=torch.block_diag(model.basis, eye),
        networks=(),
        open_ridge=frozenset(),
        reference=Reference(X, ()),
    )
    inside = [name for names in model.penalised().values() for name in names]
    return Split(
        model,
        classical,
        replace(panel, rows=replace(rows, X=X, inputs=())),
        layers,
        model.packing.only(inside),
    )
