"""Encoder `dense`: one network of the whole, fixed-length history."""

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
from dgmm.networks import Dense as Network
from dgmm.networks import Weights
from dgmm.parameters import part

__all__ = ["DenseEncoder"]


@dataclass(frozen=True)
class DenseEncoder(Encoder):
    """The linearised posterior moved by a network of (residuals, mask, times) by planned occasion.

    Missing occasions enter as zeros with mask 0, or as imputed outcomes with mask 0 (`saem`), which
    the linearised part leaves out. Later occasions than those
    seen at the fit are left to the linearised part.
    """

    hidden: int = 64

    name = "dense"

    @property
    def network(self) -> Network:
        """(J (2 + q) + c) -> mean shift and factor."""
        return Network((self.J * (2 + self.q) + self.c, self.hidden, self.hidden, self.changes))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        network = {f"net.{name}": s for name, s in self.network.shapes().items()}
        return {**skeleton_shapes(self.q, self.k), **network}

    def initial(self, generator: torch.Generator) -> Weights:
        network = self.network.initial(generator, last=0.01)
        skeleton = random_skeleton(self.q, self.k, generator)
        return {**skeleton, **{f"net.{name}": w for name, w in network.items()}}

    def __call__(self, phi: Weights, seen: Context) -> Posterior:
        subject_level = seen.covariates.sum(1) / seen.mask.sum(1, keepdim=True).clamp(min=1)
        inputs = torch.cat([self._history(seen), subject_level], dim=-1)
        change = self.network(part(phi, "net."), inputs)
        return adjust(linearised(phi, seen, self.diagonal), change)

    def _history(self, seen: Context) -> Tensor:
        outcome_seen = (seen.mask & ~seen.imputed)[..., None].to(seen.T.dtype)
        rows = torch.cat([pearson(seen), outcome_seen, seen.T], dim=-1)
        known = seen.mask & (seen.occasion < self.J)
        place = torch.where(known, seen.occasion, self.J)  # one spare place, dropped below
        index = place[..., None].expand_as(rows)
        empty = torch.zeros(len(rows), self.J + 1, rows.shape[-1], dtype=rows.dtype)
        return empty.scatter(1, index, rows)[:, : self.J].flatten(1)
