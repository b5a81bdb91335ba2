"""Outcomes that were measured together: one array with a column for each, beside their panels.

A likelihood of a hundred outcomes that asks every panel by itself takes most of its time to ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from dgmm.families import Observations
from dgmm.panel.rows import Block, Rows, Stack

__all__ = ["Beside", "stacked"]


class RowsOfOne(Protocol):
    """Rows of an outcome."""

    @property
    def subject(self) -> Tensor: ...
    @property
    def observed(self) -> Tensor: ...
    @property
    def rows(self) -> Rows: ...
    @property
    def masked(self) -> bool: ...


class PanelOfSeveral(Protocol):
    """A panel of several outcomes."""

    @property
    def beside(self) -> Sequence[PanelOfOne]: ...
    @property
    def stack(self) -> Stack | None: ...


class PanelOfOne(Protocol):
    """The panel of one outcome."""

    def block(self, subjects: Tensor) -> Block:
        """Rows of some subjects, padded."""
        ...


@dataclass(frozen=True)
class Beside(Sequence[Block]):
    """Blocks of the further outcomes of a panel, made when one of them is asked for."""

    panel: PanelOfSeveral
    subjects: Tensor
    at: Tensor  # (n, J) rows of the block of the first
    mask: Tensor  # the real ones

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """All of them."""
        return tuple(one.block(self.subjects) for one in self.panel.beside)

    @cached_property
    def stack(self) -> Stack | None:
        """All outcomes of the block, the first too, as columns."""
        every = self.panel.stack
        return None if every is None else every.at(self.at, self.mask)

    def __len__(self) -> int:
        return len(self.panel.beside)

    def __getitem__(self, which: Any) -> Any:
        return self.blocks[which]


def stacked(panels: Sequence[RowsOfOne]) -> Stack | None:
    """The outcomes of several panels as columns, where their rows are the same.

    None where rows, their fixed columns or what latent structures see of them differ.
    """
    first, *others = panels
    if not others or not len(first.subject) or not all(_alike(first, one) for one in others):
        return None
    size = len(first.subject)
    columns = zip(*((*one.rows.data, one.rows.offset, one.observed) for one in panels), strict=True)
    *data, offset, counts = (torch.stack(some, dim=-1)[:size] for some in columns)
    if not first.masked:
        counts = torch.ones_like(counts)
    return Stack(Observations(*data), offset, counts, first.rows.X[:size])


def _alike(one: RowsOfOne, other: RowsOfOne) -> bool:
    """Whether two outcomes were measured in the same rows."""
    if one.masked != other.masked or not torch.equal(one.subject, other.subject):
        return False
    own, its = one.rows, other.rows
    if own.inputs or its.inputs or own.Z or its.Z or own.level or its.level:
        return False
    if len(own.basis) != len(its.basis):
        return False
    pairs = zip((own.X, *own.T, *own.basis), (its.X, *its.T, *its.basis), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
