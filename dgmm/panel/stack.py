"""Outcomes that were measured together: one array with a column for each, in the place of panels.

Whoever asks the panels of a hundred outcomes one after the other spends its time on asking.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from dgmm.families import Observations
from dgmm.panel.rows import Rows, Stack

__all__ = ["stacked"]


class Measured(Protocol):
    """Rows of an outcome."""

    @property
    def subject(self) -> Tensor: ...
    @property
    def observed(self) -> Tensor: ...
    @property
    def rows(self) -> Rows: ...
    @property
    def masked(self) -> bool: ...


def stacked(panels: Sequence[Measured]) -> Stack | None:
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


def _alike(one: Measured, other: Measured) -> bool:
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
