"""Neural random effects: mu2 = T Lambda b + (a network of b and time), the LMM nested by Lambda."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dgmm.design import LatentBlock
from dgmm.formula import NETWORK
from dgmm.latent.base import Latent
from dgmm.latent.records import Places, columns_of, placed
from dgmm.latent.several import Factors
from dgmm.latent.warp import Warp
from dgmm.networks import Dense, Weights
from dgmm.numerics.bases import smooth_first, whitening
from dgmm.numerics.quadrature import sobol_normal
from dgmm.panel import LatentRows

__all__ = ["Neural"]

GENERAL, WARPED, OPEN = "coefficients", "warped", "auto"
HIDDEN, ACTIVATION = (16, 16), "softplus"
MOST_DEFAULT_EFFECTS, WARPED_EFFECTS = 5, 3
"""Dimension of b at most where it is not given; beside a warped curve the three of shift, stretch
and size."""

RIDGE, BESIDE = 1.0, 25.0
"""Penalty of the network before subjects left out have spoken: alone, and beside a warped curve,
of which it would take the place if it came cheaper."""


@dataclass(frozen=True)
class Neural(Latent):
    """Three forms, all centred over prior draws so that E mu2(b, t) = 0:

    coefficients   mu2 = T Lambda b + phi S (c(b) - E c),          c a network R^k -> R^r
    warped         the same + w(b, t),                             w a curve that b moves in time
    dense          mu2 = T Lambda b + (f(b, T) - E f(., T)),       f a network R^{k+q} -> R

    Lambda = K L for columns T K that are orthonormal: every weight in L is of order one, and a
    gradient step goes equally far in all directions. The columns of phi S are orthonormal and
    shrink with their roughness in time, so that the ridge asks a high price for wiggles and a low
    one for trends (see :mod:`dgmm.numerics.bases`). The warped curve is that of
    :mod:`dgmm.latent.warp`.
    """

    label: str  # as written in the formula
    names: tuple[str, ...]
    frame: Tensor  # K with the unit of the linear predictor, (q, q)
    dim: int
    form: str
    network: Dense
    shape: Tensor  # S with its unit, (r, r); (1, 1) of the dense form
    centre: Tensor  # (draws, k) prior draws over which the network is centred
    warp: Warp | None = None
    other: Neural | None = None  # of the warped form, where the formula names none
    places: Places = ()  # of several outcomes, which share b and the hidden layers
    basis_places: Places = ()
    own_basis: bool = True  # phi has columns of its own; else it is T

    name = "dnn"
    syntax = NETWORK
    linear = False

    @classmethod
    def build(cls, block: LatentBlock, unit: float) -> Neural:
        form = block.term.options.get("form", GENERAL)
        built = cls._of_form(block, unit, GENERAL if form == OPEN else form)
        is_open = form == OPEN and not block.term.target and Warp.cannot(block) is None
        return replace(built, other=cls._of_form(block, unit, WARPED)) if is_open else built

    @classmethod
    def _of_form(cls, block: LatentBlock, unit: float, form: str) -> Neural:
        term, options = block.term, block.term.options
        T = torch.from_numpy(block.columns.matrix)
        phi = torch.from_numpy((block.basis or block.columns).matrix)
        most = WARPED_EFFECTS if form == WARPED else MOST_DEFAULT_EFFECTS
        k = options.get("latent") or min(T.shape[1], most)
        hidden = options.get("hidden", HIDDEN)
        if form != "dense":
            sizes = (k, *hidden, phi.shape[1])
            time = None if block.time is None else torch.from_numpy(block.time)
            shape = unit / phi.shape[1] ** 0.5 * smooth_first(phi, time)
            draws = 256
        else:
            sizes = (k + T.shape[1], *hidden, 1)
            shape = torch.tensor([[unit]], dtype=torch.float64)
            draws = 32
        return cls(
            term.text,
            block.columns.names,
            unit * whitening(T),
            k,
            form,
            Dense(sizes, options.get("activation", ACTIVATION), bias=False),
            shape,
            sobol_normal(k, draws, seed=20),
            Warp.build(block, k, unit) if form == WARPED else None,
            own_basis=block.basis is not None,
        )

    @classmethod
    def across(cls, name: str, parts: Mapping[str, Latent]) -> Latent:
        found = [one for one in parts.values() if isinstance(one, Neural)]
        first = found[0]
        alike = {(one.dim, one.network.sizes[1:-1], one.network.activation) for one in found}
        general = [one for one in found if one.form == GENERAL and one.other is None]
        if len(parts) > 1 and (len(general) < len(parts) or len(alike) > 1):
            listed = ", ".join(f"{one.label} of `{key}`" for key, one in parts.items())
            raise ValueError(
                f"the parts `{name}` share their effects and hidden layers: dnn() of one latent=, "
                f"hidden= and activation=, and of form='coefficients', not {listed}"
            )
        outputs = [len(one.shape) for one in found]
        sizes = first.network.sizes
        return replace(
            first,
            label=name or first.label,
            names=tuple(f"{key}:{own}" for key, one in parts.items() for own in one.names),
            frame=torch.block_diag(*(one.frame for one in found)),
            network=replace(first.network, sizes=(*sizes[:-1], sum(outputs))),
            shape=torch.block_diag(*(one.shape for one in found)),
            places=placed(parts, (len(one.names) for one in found)),
            basis_places=placed(parts, outputs),
            own_basis=any(one.own_basis for one in found),
        )

    def beneath(self, name: str, parts: Mapping[str, Latent]) -> Latent:
        if len(parts) == 1:
            return super().beneath(name, parts)
        return Factors.of(name, self.dim, parts)

    def candidates(self) -> tuple[Latent, ...]:
        """The general form, and the warped one where the formula leaves it open."""
        if self.other is None:
            return (self,)
        return replace(self, other=None), self.other

    def spelled(self) -> Mapping[str, str]:
        return {"form": self.form}

    @property
    def penalised(self) -> frozenset[str]:  # type: ignore[override]
        """The layers of the network; Lambda is free."""
        return frozenset(self.network.shapes())

    @property
    def ridge(self) -> float:  # type: ignore[override]
        """Where the search for the penalty of the network begins."""
        return RIDGE if self.warp is None else BESIDE

    @property
    def weak(self) -> dict[str, float]:  # type: ignore[override]
        """The curve and what moves it."""
        return {} if self.warp is None else self.warp.weak()

    def layers(self) -> str:
        return "-".join(str(size) for size in self.network.sizes)

    def remark(self, weights: Weights) -> str:
        return "" if self.warp is None else self.warp.remark(weights)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        moved = {} if self.warp is None else self.warp.shapes()
        return {"Lambda": (len(self.names), self.dim), **moved, **self.network.shapes()}

    def initial(self, generator: torch.Generator) -> Weights:
        Lambda = 0.5 * torch.eye(len(self.names), self.dim, dtype=torch.float64)
        return {"Lambda": Lambda, **self._beside(generator, last=0.05)}

    def _beside(self, generator: torch.Generator, last: float) -> Weights:
        """Starting values of all that is not linear."""
        moved = {} if self.warp is None else self.warp.initial(generator)
        return {**moved, **self.network.initial(generator, last=last)}

    def from_covariance(
        self, covariance: Tensor, gram: Tensor, generator: torch.Generator
    ) -> Weights:
        # principal directions of the random function: eigenvectors of G^(1/2) D G^(1/2)
        D = torch.linalg.solve(self.frame, torch.linalg.solve(self.frame, covariance).T)
        G = self.frame.T @ gram @ self.frame
        value, vector = torch.linalg.eigh(G)
        value = value.clamp(min=1e-12 * float(value[-1]))
        floor = 1e-4 * float(value.mean())  # in the units of the linear predictor, as G is
        half, inverse = (vector * value.sqrt()) @ vector.T, (vector / value.sqrt()) @ vector.T
        value, vector = torch.linalg.eigh(half @ D @ half)
        top = torch.argsort(value, descending=True)[: self.dim]
        Lambda = inverse @ (vector[:, top] * value[top].clamp(min=floor).sqrt())
        missing = self.dim - Lambda.shape[1]
        if missing > 0:
            extra = torch.zeros(len(self.names), missing, dtype=D.dtype)
            Lambda = torch.cat([Lambda, extra], dim=1)
        return {"Lambda": Lambda, **self._beside(generator, last=0.02)}

    def from_profile(self, weights: Weights, T: Tensor, profile: Tensor) -> Weights:
        if self.warp is None:
            return weights
        start, left = self.warp.from_profile(weights, self.loadings(weights), T, profile)
        return {**weights, **start, "Lambda": torch.linalg.solve(self.frame, left)}

    def invariances(self, weights: Weights) -> tuple[Weights, ...]:
        """Rotations of b: Lambda -> Lambda (I + e S), S antisymmetric."""
        found = []
        for one in range(self.dim):
            for two in range(one):
                S = torch.zeros(self.dim, self.dim, dtype=torch.float64)
                S[one, two], S[two, one] = 1.0, -1.0
                found.append({"Lambda": weights["Lambda"] @ S})
        return tuple(found)

    def prepare(self, weights: Weights) -> Weights:
        if self.form == "dense":
            return {}
        moved = {} if self.warp is None else self.warp.prepare(weights, self.centre)
        return {"centre": self._shaped(weights, self.centre).mean(0), **moved}

    def candidate_modes(self, weights: Weights) -> Tensor:
        return (
            super().candidate_modes(weights)
            if self.warp is None
            else self.warp.candidate_modes(weights)
        )

    def at(self, weights: Weights, b: Tensor, rows: Sequence[LatentRows]) -> Weights:
        if self.form == "dense" or not self.basis_places:
            return {}
        names, sizes = zip(*((n, end - first) for n, first, end in self.basis_places), strict=True)
        parts = zip(names, self._centred(weights, b).split(sizes, dim=-1), strict=True)
        return {f"centred.{name}": own for name, own in parts}

    def slopes_at(self, weights: Weights, b: Tensor) -> Weights:
        return {} if self.form == "dense" else {"slopes": self._slopes(weights, b)}

    def loadings(self, weights: Weights) -> Tensor:
        return self.frame @ weights["Lambda"]

    def tangent(self, weights: Weights) -> Tensor:
        skip = self.loadings(weights)
        return skip if self.warp is None else skip + self.warp.tangent(weights, self.centre)

    def effect(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        if self.form == "dense":
            linear = torch.einsum("njq,...nq->...nj", rows.T, self._linear(weights, b, rows))
            return linear + self._dense(weights, b, rows.T)
        first, *rest = [
            torch.einsum("njq,...nq->...nj", columns, coefficients)
            for columns, coefficients in self._columns(weights, b, rows)
        ]
        total: Tensor = sum(rest, first)
        return total if self.warp is None else total + self.warp.effect(weights, b, rows.T)

    def _linear(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        """Lambda b of an outcome, (..., n, q)."""
        return b @ self.loadings(weights)[columns_of(self.places, rows.outcome)].T

    def _columns(
        self, weights: Weights, b: Tensor, rows: LatentRows
    ) -> list[tuple[Tensor, Tensor]]:
        """Columns (n, J, .) and their coefficients (..., n, .), whose products sum to the curve
        that is no warp.
        """
        linear, curved = self._linear(weights, b, rows), self._curved(weights, b, rows.outcome)
        if self.own_basis:
            return [(rows.T, linear), (rows.basis, curved)]
        return [(rows.T, linear + curved)]

    def _curved(self, weights: Weights, b: Tensor, outcome: str) -> Tensor:
        """S (c(b) - E c) of an outcome, (..., n, r)."""
        if (known := weights.get(f"centred.{outcome}")) is None:
            own = columns_of(self.basis_places, outcome)
            known = self._centred(weights, b)[..., own]
        return known

    def _centred(self, weights: Weights, b: Tensor) -> Tensor:
        """S (c(b) - E c) of all outcomes, (..., r)."""
        return self._shaped(weights, b) - weights["centre"]

    def _shaped(self, weights: Weights, b: Tensor) -> Tensor:
        """S c(b), (..., r): the last layer gives it at once."""
        return self.network(self._with_shape(weights), b)

    def _slopes(self, weights: Weights, b: Tensor) -> Tensor:
        """d S c / d b, (..., r, k)."""
        return self.network.jacobian(self._with_shape(weights), b)

    def _with_shape(self, weights: Weights) -> Weights:
        last = f"A{len(self.network.sizes) - 1}"
        return {**weights, last: self.shape @ weights[last]}

    def as_columns(
        self, weights: Weights, b: Tensor, rows: LatentRows
    ) -> tuple[Tensor, Tensor] | None:
        if self.form != GENERAL:
            return None
        columns, coefficients = zip(*self._columns(weights, b, rows), strict=True)
        return torch.cat(columns, dim=-1), torch.cat(coefficients, dim=-1)

    def _dense(self, weights: Weights, b: Tensor, T: Tensor) -> Tensor:
        unit, rows = self.shape[0, 0], self._standard(T)
        return unit * (
            self.network(weights, _beside(b, rows))[..., 0]
            - self.network(weights, _beside(self.centre[:, None, :], rows))[..., 0].mean(0)
        )

    def _standard(self, T: Tensor) -> Tensor:
        """The columns of time as the network of the dense form takes them."""
        return T @ self.frame / self.shape[0, 0]

    def jacobian(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        if self.form == "dense":
            inputs = _beside(b, self._standard(rows.T))
            slopes = self.network.jacobian(weights, inputs)[..., 0, : self.dim]
            return rows.T @ self.loadings(weights) + self.shape[0, 0] * slopes
        own = columns_of(self.basis_places, rows.outcome)
        Lambda = self.loadings(weights)[columns_of(self.places, rows.outcome)]
        slopes = weights["slopes"] if "slopes" in weights else self._slopes(weights, b)
        slopes = slopes[..., own, :]
        J = rows.T @ Lambda + rows.basis @ slopes if self.own_basis else rows.T @ (Lambda + slopes)
        return J if self.warp is None else J + self.warp.jacobian(weights, b, rows.T)


def _beside(b: Tensor, rows: Tensor) -> Tensor:
    """b (..., n, k) beside every row of its subject, (n, J, q) -> (..., n, J, k + q)."""
    shape = (*b.shape[:-2], *rows.shape[:-1])
    spread = b.unsqueeze(-2).expand(*shape, b.shape[-1])
    return torch.cat([spread, rows.expand(*shape, rows.shape[-1])], dim=-1)
