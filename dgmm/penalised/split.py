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

from dgmm.model import Model
from dgmm.networks import FixedNetwork, Reference, Sweep, Weights
from dgmm.panel import Panel, Rows
from dgmm.parameters import Packing, Theta, part

__all__ = ["Split", "fixed_only", "take_apart"]


def fixed_only(model: Model) -> bool:
    """Networks on the fixed side alone: the random part is linear in columns."""
    return bool(model.networks) and model.by_columns


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

    def sweep(self, weights: Weights) -> _Swept:
        dense, other = self.network.network, self.z_reference
        return _Swept(
            self,
            dense.sweep(weights, self.z),
            None if other is None else dense.sweep(weights, other),
        )

    def centred(self, f: Tensor, at_reference: Tensor) -> Tensor:
        """f - C gamma, f (N, ...)."""
        return f - self.C @ (self.project @ at_reference)

    def skips(self) -> Tensor:
        """The columns of the skip, (N, s)."""
        at = list(self.network.linear)
        z = self.network.unit * self.z[:, at]
        other = self.z_reference
        return self.centred(z, z if other is None else self.network.unit * other[:, at])


@dataclass(frozen=True)
class _Swept:
    """The same at some weights."""

    layers: _Layers
    rows: Sweep
    reference: Sweep | None

    def effect(self) -> Tensor:
        f, other = self.rows.value, self.reference
        return self._scaled(self.layers.centred(f, f if other is None else other.value))

    def pull(self, omega: Tensor) -> Tensor:
        back = self.layers.project.T @ (self.layers.C.T @ omega)
        if self.reference is None:
            return self._scaled(self.rows.pull(omega - back))
        return self._scaled(self.rows.pull(omega) - self.reference.pull(back))

    def jacobian(self) -> Tensor:
        J, other = self.rows.jacobian(), self.reference
        gamma = self.layers.project @ (J if other is None else other.jacobian())
        return J.addmm_(self.layers.C, gamma, alpha=-1).mul_(self.layers.network.unit)

    def _scaled(self, f: Tensor) -> Tensor:
        return self.layers.network.unit * f


@dataclass(frozen=True)
class Sweeps:
    """layers(w) of all networks, and its derivatives in w."""

    each: tuple[_Swept, ...]

    def effect(self) -> Tensor:
        """layers(w) at the rows, (N,)."""
        return torch.stack([one.effect() for one in self.each]).sum(0)

    def pull(self, omega: Tensor) -> Tensor:
        """sum_ij omega_ij d layers_ij / d w, omega (N,), (P,)."""
        return torch.cat([one.pull(omega) for one in self.each])

    def jacobian(self) -> Tensor:
        """d layers / d w, (N, P)."""
        blocks = [one.jacobian() for one in self.each]
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)


@dataclass(frozen=True)
class Split:
    """See the module: ``classical`` on ``panel`` with layers(w) as a further offset."""

    model: Model
    whole: Panel  # the rows as the model has them
    classical: Model  # linear columns and skips, no networks
    panel: Panel  # the rows with the columns X~
    layers: tuple[_Layers, ...]
    packing: Packing  # of w: the layers of all networks

    def sweep(self, w: Tensor) -> Sweeps:
        """The networks at the weights w, (P,)."""
        theta = self.packing.unpack(w)
        return Sweeps(
            tuple(one.sweep(part(theta, f"dnn{i}.")) for i, one in enumerate(self.layers, 1))
        )

    def select(self, subjects: Tensor) -> Split:
        """The same over some subjects (positions), the networks centred over them."""
        panel = self.whole.select(subjects)
        return take_apart(self.model.with_reference(panel), panel)

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
    classical = replace(model, open_ridge=()).with_outcome(
        names=(*model.names, *names),
        basis=torch.block_diag(model.basis, eye),
        networks=(),
        reference=Reference(X, ()),
    )
    inside = [name for names in model.penalised().values() for name in names]
    return Split(
        model,
        panel,
        classical,
        replace(panel, rows=replace(rows, X=X, inputs=())),
        layers,
        model.packing.only(inside),
    )
