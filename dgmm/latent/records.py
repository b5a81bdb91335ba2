"""Records of latent structures: parameters reported, moves of states, ends of a range, places."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from torch import Tensor

from dgmm.families.links import Link

__all__ = [
    "BOUNDARY",
    "Boundary",
    "Chain",
    "Component",
    "Places",
    "columns_of",
    "placed",
]

Places = tuple[tuple[str, int, int], ...]
"""Of a latent structure of several outcomes the columns of each: name, first, and one past last."""

BOUNDARY = 1e-4
"""A diagonal entry of Lambda below this share of the largest is called zero, as lme4 does."""


class Component(NamedTuple):
    """A reported parameter: its kind ("sd", "cor", "range", ...) and the effects it is about.

    Intervals are made on the scale of the ``link``.
    """

    kind: str
    effects: tuple[str, ...]  # one, or the two that are correlated
    link: Link


class Chain(NamedTuple):
    """States that move from row to row: z_j = A_j z_{j-1} + B_j e_j, of which mu2 takes c'z_j.

    e ~ N(0, I). A and B of a first row are those of the move from zero to the first state, and B
    is zero where that has a flat prior.
    """

    A: Tensor  # (..., d, d)
    B: Tensor  # (..., d, d)
    c: Tensor  # (d,)


class Boundary(NamedTuple):
    """What of a random part is at the edge of its range.

    names: effects without a variance of their own, given the ones before. held: per weight the
    entries without information, in their shape. reasons: a clause about everything at an edge.
    """

    names: tuple[str, ...]
    held: Mapping[str, Tensor]
    reasons: tuple[str, ...] = ()


def columns_of(places: Places, outcome: str) -> slice:
    """The columns that the rows of an outcome have: all of them where there is one outcome."""
    return next((slice(first, end) for name, first, end in places if name == outcome), slice(None))


def placed(outcomes: Iterable[str], sizes: Iterable[int]) -> Places:
    """The columns of every outcome, one after the other."""
    ends = np.cumsum([0, *sizes]).tolist()
    return tuple(zip(outcomes, ends[:-1], ends[1:], strict=True))
