"""Encoder `recurrent`: a gated recurrent unit that reads the visits in order of time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgmm.encoders.base import (
    Context,
    Encoder,
    Posterior,
    adjust,
    linearised,
    pearson,
    random_skeleton,
    skeleton_shapes,
)
from dgmm.networks import Dense, Gated, Weights
from dgmm.parameters import part

__all__ = ["Recurrent"]


@dataclass(frozen=True)
class Recurrent(Encoder):
    """s_j = GRU(s_{j-1}; residual_j, T_j, x_j); the last state moves the linearised posterior."""

    hidden: int = 32

    name = "recurrent"

    @property
    def reader(self) -> Gated:
        """(residual, T, covariates) of a row and the state before it -> the state."""
        return Gated(1 + self.q + self.c, self.hidden)

    @property
    def head(self) -> Dense:
        """Last state -> mean shift and factor."""
        return Dense((self.hidden, self.changes))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {
            **skeleton_shapes(self.q, self.k),
            **self.reader.shapes(),
            **{f"head.{name}": s for name, s in self.head.shapes().items()},
        }

    def initial(self, generator: torch.Generator) -> Weights:
        head = self.head.initial(generator, last=0.01)
        return {
            **random_skeleton(self.q, self.k, generator),
            **self.reader.initial(generator),
            **{f"head.{name}": w for name, w in head.items()},
        }

    def __call__(self, phi: Weights, seen: Context) -> Posterior:
        rows = torch.cat([pearson(seen), seen.T, seen.covariates], dim=-1)
        state = self._read(phi, rows, seen.mask)
        return adjust(linearised(phi, seen, self.diagonal), self.head(part(phi, "head."), state))

    def _read(self, phi: Weights, rows: Tensor, mask: Tensor) -> Tensor:
        state = torch.zeros(len(rows), self.hidden, dtype=rows.dtype)
        for j, drive in enumerate(self.reader.drive(phi, rows).unbind(1)):
            moved = self.reader.step(phi, drive, state)
            state = torch.where(mask[:, j, None], moved, state)
        return state
