"""The parts of a model, and which of them enters where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from dgmm.families import Family
from dgmm.latent import Latent, columns_of
from dgmm.networks import FixedNetwork, Reference
from dgmm.outcomes import Longitudinal, PartPredictor, Residual
from dgmm.outcomes.longitudinal import REFERENCE_ROWS
from dgmm.panel import Panel, Rows
from dgmm.parameters import Packing, Theta

__all__ = ["Entry", "Structure"]


@dataclass(frozen=True)
class Entry:
    """Where a latent structure enters: an outcome, and one of its predictors."""

    outcome: int = 0
    predictor: int = 0  # 0 is eta, r the r-th extra parameter of the family


@dataclass(frozen=True)
class Structure:
    """Everything fixed before estimation; ``theta`` holds everything estimated.

    The outcomes have subjects in common. Methods that name rows, and the properties of
    ``outcome``, are about the first one, of which there is often no other.
    """

    outcomes: tuple[Longitudinal, ...]
    latents: tuple[Latent, ...]
    entries: tuple[tuple[Entry, ...], ...]  # per latent
    latent_ridge: tuple[float, ...]
    open_ridge: tuple[str, ...]  # networks whose penalty the fit chooses
    whitener: Tensor  # (q, q): the columns of [T_1, T_2, ...] whitener are orthonormal on average,
    # of several outcomes those of each
    equalities: int = 0  # between coefficients that theta has twice
    residual: Residual | None = None  # None: outcomes are independent given b

    @property
    def nondegenerate(self) -> bool:
        """Outcomes vary at every row, the first too, without noise of their own."""
        return any(one.nondegenerate for one in self.latents)

    def learning(self) -> Self:
        """The model while a training moves its weights."""
        latents = tuple(one.learning() for one in self.latents)
        return replace(self, latents=latents)

    # -- parameters -------------------------------------------------------------------------------

    @property
    def packing(self) -> Packing:
        """Names and shapes of theta."""
        shapes: dict[str, tuple[int, ...]] = {}
        for outcome in self.outcomes:
            shapes |= outcome.shapes()
        if self.in_common:
            shapes["shared"] = (self.in_common,)
        for i, latent in enumerate(self.latents, 1):
            shapes |= {f"latent{i}.{name}": s for name, s in latent.shapes().items()}
        for outcome in self.outcomes:
            shapes |= outcome.extra_shape()
        if self.residual is not None:
            shapes |= self.residual.shapes()
        return Packing(shapes)

    # -- penalties ---------------------------------------------------------------------------------

    def ridge_of(self, network: str) -> float:
        """Penalty kappa of a network by its prefix, "dnn1" or "latent1"."""
        if network.startswith("latent"):
            return self.latent_ridge[int(network.removeprefix("latent")) - 1]
        return next(o.ridges()[network] for o in self.outcomes if network in o.ridges())

    def penalised(self) -> dict[str, list[str]]:
        """Per network ("dnn1", "latent1") its penalised parameters: the layers, nothing else.

        Intercepts of hidden units are penalised with the matrices: they place the units on
        standardised inputs, and left free those of silent units would count as parameters.
        """
        found: dict[str, list[str]] = {}
        for outcome in self.outcomes:
            found |= outcome.penalised()
        for i, latent in enumerate(self.latents, 1):
            if latent.penalised:
                found[f"latent{i}"] = [f"latent{i}.{name}" for name in sorted(latent.penalised)]
        return found

    def direct(self) -> list[str]:
        """The linear coefficients of all outcomes, and the skips of networks on the fixed side."""
        return [name for one in self.outcomes for name in one.direct()]

    def coefficients(self, theta: Theta) -> Tensor:
        """Coefficients of the columns as the user wrote them, of all outcomes."""
        return torch.cat([one.beta(theta) for one in self.outcomes])

    def head(self) -> list[str]:
        """Linear parts and last layers: all but hidden layers, and curves of latent structures."""
        hidden = {f"latent{i}.{n}" for i, one in enumerate(self.latents, 1) for n in one.weak}
        for names in self.penalised().values():
            last = max(int(name.rpartition(".")[2][1:]) for name in names)
            hidden |= {name for name in names if int(name.rpartition(".")[2][1:]) < last}
        return [name for name in self.packing.shapes if name not in hidden]

    def ridge(self) -> dict[str, float]:
        """Penalty kappa of every penalised parameter: layers, and curves of latent structures."""
        kappa = {
            name: self.ridge_of(network)
            for network, names in self.penalised().items()
            for name in names
        }
        for i, latent in enumerate(self.latents, 1):
            kappa |= {f"latent{i}.{name}": value for name, value in latent.weak.items()}
        return kappa

    def penalty(self, theta: Theta) -> Tensor:
        """1/2 sum kappa |w|^2 over the penalised weights."""
        total = torch.zeros((), dtype=torch.float64)
        for name, kappa in self.ridge().items():
            total = total + 0.5 * kappa * theta[name].square().sum()
        return total

    def with_ridge(self, kappa: Mapping[str, float]) -> Self:
        """The model with other penalties for the networks whose penalty is open."""
        given = {name: value for name, value in kappa.items() if name in self.open_ridge}
        outcomes = tuple(outcome.with_ridge(given) for outcome in self.outcomes)
        latents = tuple(
            given.get(f"latent{i}", ridge) for i, ridge in enumerate(self.latent_ridge, 1)
        )
        return replace(self, outcomes=outcomes, latent_ridge=latents)

    # -- the first outcome -----------------------------------------------------------------------

    @property
    def outcome(self) -> Longitudinal:
        """The first outcome."""
        return self.outcomes[0]

    def with_outcome(self, **changes: Any) -> Self:
        """The model with some fields of its first outcome changed."""
        return replace(self, outcomes=(replace(self.outcome, **changes), *self.outcomes[1:]))

    @property
    def in_common(self) -> int:
        """Number of coefficients that several outcomes have in common."""
        return max((at + 1 for one in self.outcomes for at in one.shared), default=0)

    @property
    def family(self) -> Family:
        """F and g."""
        return self.outcome.family

    @property
    def names(self) -> tuple[str, ...]:
        """The linear coefficients, (p,)."""
        return self.outcome.names

    @property
    def basis(self) -> Tensor:
        """(p, p): beta = basis @ theta["beta"]."""
        return self.outcome.basis

    @property
    def unit(self) -> float:
        """Scale of the linear predictor."""
        return self.outcome.unit

    @property
    def networks(self) -> tuple[FixedNetwork, ...]:
        """Networks of the fixed part."""
        return self.outcome.networks

    @property
    def parts(self) -> tuple[PartPredictor, ...]:
        """Predictors of extra parameters."""
        return self.outcome.parts

    @property
    def reference(self) -> Reference:
        """The sample over which networks are centred."""
        return self.outcome.reference

    @property
    def targets(self) -> tuple[int, ...]:
        """The predictor of the first outcome that every latent structure enters, -1 if none."""
        found = ([e.predictor for e in own if e.outcome == 0] for own in self.entries)
        return tuple(own[0] if own else -1 for own in found)

    @property
    def extra_sizes(self) -> tuple[int, ...]:
        """Coefficients of every extra parameter, 1 where it is one number."""
        return self.outcome.extra_sizes

    def beta(self, theta: Theta) -> Tensor:
        """Coefficients of the columns as the user wrote them."""
        return self.outcome.beta(theta)

    def network_effect(self, ready: Theta, i: int, rows: Rows) -> Tensor:
        """The centred, orthogonal output of the i-th (0, 1, ...) fixed network at some rows."""
        return self.outcome.network_effect(ready, i, rows)

    def mu1(self, ready: Theta, rows: Rows) -> Tensor:
        """offset + X beta + networks, in the shape of the rows."""
        return self.outcome.mu1(ready, rows)

    def part_of(self, i: int) -> str:
        """The part ("zi") whose predictor the i-th (0, 1, ...) latent enters, "" for the mean."""
        entered = {one.position + 1: one.name for one in self.parts}
        return entered.get(self.targets[i], "")

    def predictor_of_columns(self) -> list[int]:
        """For every column of all T: 0 where it enters eta, r where the r-th extra parameter."""
        pairs = zip(self.latents, self.targets, strict=True)
        return [target for latent, target in pairs for _ in latent.names]

    def units(self) -> Tensor:
        """The scale of the predictor that every column of all T enters, (q,)."""
        scale = {one.name: one.unit for one in self.outcomes}
        found = []
        for latent, entries in zip(self.latents, self.entries, strict=True):
            first = scale[self.outcomes[entries[0].outcome].name]
            unit = torch.full((len(latent.names),), first, dtype=torch.float64)
            for name, start, end in latent.places:
                unit[start:end] = scale[name]
            found.append(unit)
        return torch.cat(found)

    def columns_of(self, rows: Rows, outcome: int) -> Tensor:
        """The columns of all T at rows (n, J) of an outcome, zero where they are those of another,
        (n, J, q).
        """
        found, name = [], self.outcomes[outcome].name
        for i, latent in enumerate(self.latents):
            T, own = rows.T[i], columns_of(latent.places, name)
            if T.shape[-1] < len(latent.names):
                first = own.start or 0
                T = pad(T, (first, len(latent.names) - first - T.shape[-1]))
            found.append(T)
        return torch.cat(found, dim=-1)

    def columns(self, rows: Rows) -> Tensor:
        """The columns of all T frame, (N, q)."""
        pairs = zip(rows.T, self.latents, strict=True)
        return torch.cat([T @ latent.frame for T, latent in pairs], dim=1)

    # -- reparametrisation -----------------------------------------------------------------------

    def with_reference(self, panel: Panel, rows: int = REFERENCE_ROWS) -> Self:
        """Centre the networks over (at most ``rows`` evenly spaced rows of) a panel."""
        pairs = zip(self.outcomes, panel.panels, strict=True)
        return replace(
            self, outcomes=tuple(outcome.with_reference(own, rows) for outcome, own in pairs)
        )

    def absorb(self, theta: Theta, other: Structure) -> Theta:
        """theta of ``other``, which centres over another sample, for the same function of x."""
        for outcome, old in zip(self.outcomes, other.outcomes, strict=True):
            theta = outcome.absorb(theta, old)
        return theta
