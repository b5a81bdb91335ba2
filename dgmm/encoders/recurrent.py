"""Encoder `recurrent`: a gated recurrent unit that reads the visits in order of time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

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
from dgmm.networks import Dense, Weights
from dgmm.parameters import part

__all__ = ["Recurrent"]


@dataclass(frozen=True)
class Recurrent(Encoder):
    """s_j = GRU(s_{j-1}; residual_j, T_j, x_j); the last state moves the linearised posterior."""

    hidden: int = 32

    name = "recurrent"

    @property
    def head(self) -> Dense:
        """Last state -> mean shift and factor."""
        return Dense((self.hidden, self.changes))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        inputs, H = 1 + self.q + self.c, self.hidden
        return {
            **skeleton_shapes(self.q, self.k),
            "input": (3 * H, inputs),
            "state": (3 * H, H),
            "bias": (3 * H,),
            **{f"head.{name}": s for name, s in self.head.shapes().items()},
        }

    def initial(self, generator: torch.Generator) -> Weights:
        shapes, H = self.shapes(), self.hidden

        def normal(name: str, spread: float) -> Tensor:
            draws = torch.randn(shapes[name], generator=generator, dtype=torch.float64)
            return spread * draws

        head = self.head.initial(generator, last=0.01)
        return {
            **random_skeleton(self.q, self.k, generator),
            "input": normal("input", shapes["input"][1] ** -0.5),
            "state": normal("state", H**-0.5),
            "bias": torch.zeros(3 * H, dtype=torch.float64),
            **{f"head.{name}": w for name, w in head.items()},
        }

    def __call__(self, phi: Weights, seen: Context) -> Posterior:
        rows = torch.cat([pearson(seen), seen.T, seen.covariates], dim=-1)
        state = self._read(phi, rows, seen.mask)
        return adjust(linearised(phi, seen, self.diagonal), self.head(part(phi, "head."), state))

    def _read(self, phi: Weights, rows: Tensor, mask: Tensor) -> Tensor:
        state = torch.zeros(len(rows), self.hidden, dtype=rows.dtype)
        drive = linear(rows, phi["input"], phi["bias"]).unbind(1)
        for j, (reset_in, update_in, new_in) in enumerate(d.chunk(3, -1) for d in drive):
            reset_s, update_s, new_s = linear(state, phi["state"]).chunk(3, -1)
            update = torch.sigmoid(update_in + update_s)
            proposal = torch.tanh(new_in + torch.sigmoid(reset_in + reset_s) * new_s)
            moved = update * state + (1 - update) * proposal
            state = torch.where(mask[:, j, None], moved, state)
        return state
