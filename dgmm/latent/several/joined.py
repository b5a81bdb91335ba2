"""Neural effects of some outcomes beside linear effects of others, all correlated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from dgmm.design import LatentBlock
from dgmm.latent.base import Latent
from dgmm.latent.records import Places
from dgmm.networks import Weights
from dgmm.panel import LatentRows

__all__ = ["Joined"]

LEAST = 0.05
"""Standard deviation of a linear effect given the neural ones, in its scale, where a search
begins."""


@dataclass(frozen=True)
class Joined(Latent):
    """b = (b_c, b_p) ~ N(0, I): b_c enters networks, and u = frame (A b_c + L b_p) is linear.

        cov(b_c, u) = I, A'frame', frame (A A' + L L') frame'

    so that any correlation of u with the neural effects, and within u, is one of the model. The
    covariance of b_c is in the networks.
    """

    label: str
    curved: Latent
    plain: Latent  # linear by columns, with a free covariance

    name = "joined"
    linear = False

    @classmethod
    def build(cls, block: LatentBlock, unit: float) -> Joined:
        raise ValueError("neural and linear effects are joined by a name in mv()")

    @property
    def neural(self) -> bool:
        return True

    @property
    def dim(self) -> int:  # type: ignore[override]
        return self.curved.dim + self.plain.dim

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.curved.names + self.plain.names

    @property
    def frame(self) -> Tensor:  # type: ignore[override]
        return torch.block_diag(self.curved.frame, self.plain.frame)

    @property
    def places(self) -> Places:  # type: ignore[override]
        first = len(self.curved.names)
        return self.curved.places + tuple(
            (name, start + first, end + first) for name, start, end in self.plain.places
        )

    @property
    def penalised(self) -> frozenset[str]:  # type: ignore[override]
        return self.curved.penalised

    @property
    def ridge(self) -> float:  # type: ignore[override]
        return self.curved.ridge

    @property
    def weak(self) -> Mapping[str, float]:  # type: ignore[override]
        return self.curved.weak

    def layers(self) -> str:
        return self.curved.layers()

    def remark(self, weights: Weights) -> str:
        return self.curved.remark(weights)

    def beneath(self, name: str, parts: Mapping[str, Latent]) -> Latent:
        """A free covariance of all effects; of outcomes that share b_c the same."""
        return type(next(iter(parts.values()))).across(name, parts)

    # -- parameters --------------------------------------------------------------------------

    def shapes(self) -> dict[str, tuple[int, ...]]:
        across = {"across": (self.plain.dim, self.curved.dim)}
        return {**self.curved.shapes(), **across, **self.plain.shapes()}

    def initial(self, generator: torch.Generator) -> Weights:
        across = torch.zeros(self.plain.dim, self.curved.dim, dtype=torch.float64)
        own = self.curved.initial(generator)
        return {**own, "across": across, **self.plain.initial(generator)}

    def from_covariance(
        self, covariance: Tensor, gram: Tensor, generator: torch.Generator
    ) -> Weights:
        first = len(self.curved.names)
        own = self.curved.from_covariance(
            covariance[:first, :first], gram[:first, :first], generator
        )
        back = torch.linalg.pinv(self.curved.loadings(own))  # u_c -> b_c
        slope = covariance[first:, :first] @ back.T  # cov(u, b_c)
        rest = covariance[first:, first:] - slope @ slope.T
        value, vector = torch.linalg.eigh(rest)
        rest = (vector * value.clamp(min=0)) @ vector.T
        least = (LEAST * self.plain.scale).square()
        rest = rest + torch.diag((least - rest.diagonal()).clamp(min=0))
        across = torch.linalg.solve(self.plain.frame, slope)
        return {**own, "across": across, **self.plain.nearest(rest)}

    def invariances(self, weights: Weights) -> tuple[Weights, ...]:
        """Rotations of b_c, with A following."""
        found = []
        for turned in self.curved.invariances(weights):
            S = torch.linalg.pinv(weights["Lambda"]) @ turned["Lambda"]
            found.append({**turned, "across": weights["across"] @ S})
        return tuple(found)

    # -- mu2 ---------------------------------------------------------------------------------

    def prepare(self, weights: Weights) -> Weights:
        return self.curved.prepare(weights)

    def candidate_modes(self, weights: Weights) -> Tensor:
        return pad(self.curved.candidate_modes(weights), (0, self.plain.dim))

    def loadings(self, weights: Weights) -> Tensor:
        above = pad(self.curved.loadings(weights), (0, self.plain.dim))
        return torch.cat([above, self._plain(weights)])

    def _plain(self, weights: Weights) -> Tensor:
        """frame [A, L], (q, k)."""
        across = self.plain.frame @ weights["across"]
        return torch.cat([across, self.plain.loadings(weights)], dim=1)

    def _curved_in(self, outcome: str) -> bool:
        return any(name == outcome for name, _, _ in self.curved.places)

    def _columns(self, weights: Weights, outcome: str) -> Tensor:
        """The rows of frame [A, L] of an outcome."""
        first, end = next((a, b) for name, a, b in self.plain.places if name == outcome)
        return self._plain(weights)[first:end]

    def at(self, weights: Weights, b: Tensor, rows: Sequence[LatentRows]) -> Weights:
        return self.curved.at(weights, b[..., : self.curved.dim], rows)

    def slopes_at(self, weights: Weights, b: Tensor) -> Weights:
        return self.curved.slopes_at(weights, b[..., : self.curved.dim])

    def effect(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        if self._curved_in(rows.outcome):
            return self.curved.effect(weights, b[..., : self.curved.dim], rows)
        u = b @ self._columns(weights, rows.outcome).T
        return torch.einsum("njq,...nq->...nj", rows.T, u)

    def as_columns(
        self, weights: Weights, b: Tensor, rows: LatentRows
    ) -> tuple[Tensor, Tensor] | None:
        if self._curved_in(rows.outcome):
            return self.curved.as_columns(weights, b[..., : self.curved.dim], rows)
        return rows.T, b @ self._columns(weights, rows.outcome).T

    def jacobian(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        if self._curved_in(rows.outcome):
            own = self.curved.jacobian(weights, b[..., : self.curved.dim], rows)
            return pad(own, (0, self.plain.dim))
        return rows.T @ self._columns(weights, rows.outcome)
