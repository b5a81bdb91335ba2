"""Several grouping factors: their levels, and the latent terms that vary between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgmm.design import Design

__all__ = ["Crossing", "Factor", "crossing_of", "effects_of_rows"]


@dataclass(frozen=True)
class Crossing:
    """Several grouping factors, nested or crossed: their levels, and which term is whose."""

    names: tuple[str, ...]  # (F,)
    labels: tuple[np.ndarray, ...]  # (m_f,) each: levels of the fit
    factor: tuple[int, ...]  # grouping factor of each latent term

    def terms(self, f: int) -> list[int]:
        """The latent terms of a factor."""
        return [term for term, factor in enumerate(self.factor) if factor == f]


class Factor(NamedTuple):
    """A grouping factor, its levels and the latent terms that vary between them."""

    name: str  # "" where there is one factor only
    labels: np.ndarray
    terms: list[int]


def effects_of_rows(
    factors: Sequence[Factor],
    effects: Sequence[Tensor],
    level: Sequence[Tensor],
    dims: Sequence[int],
) -> Tensor:
    """b of every row (N, k), term by term, from those of all levels (m_f, k_f)."""
    parts: list[Tensor] = [torch.empty(0)] * len(dims)
    for factor, values, codes in zip(factors, effects, level, strict=True):
        pieces = torch.split(values[codes], [dims[term] for term in factor.terms], dim=1)
        for term, piece in zip(factor.terms, pieces, strict=True):
            parts[term] = piece
    return torch.cat(parts, dim=1)


def crossing_of(design: Design) -> tuple[Crossing | None, tuple[Tensor, ...]]:
    """The grouping factors and the level of every row in each, when there are several."""
    groupings = {block.grouping.name: block.grouping for block in design.latents}
    if len(groupings) < 2:
        return None, ()
    names = tuple(groupings)
    factor = tuple(names.index(block.grouping.name) for block in design.latents)
    labels = tuple(one.levels for one in groupings.values())
    return Crossing(names, labels, factor), tuple(
        torch.from_numpy(one.codes) for one in groupings.values()
    )
