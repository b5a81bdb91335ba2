"""Measurements as tensors: the rows of a panel, and blocks of subjects padded to one length.

Axis order is (M draws, n subjects, J measurements, .).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from dgmm.families import Observations

__all__ = ["Block", "LatentRows", "Past", "Rows", "Stack"]


class Past(NamedTuple):
    """What a latent structure that reads the outcomes sees of them, in units of its own.

    The outcome of a row that was not seen stands for one about its mean, residual + spread e.
    """

    residual: Tensor  # (n, J) working residual from the fixed part
    spread: Tensor  # (n, J) standard deviation of it given the random part
    seen: Tensor  # (n, J) bool


class LatentRows(NamedTuple):
    """What a latent structure sees of the rows of a block, in the order of time."""

    T: Tensor  # (n, J, q) its columns
    basis: Tensor  # (n, J, r) its coefficient basis phi, or its inputs
    time: Tensor  # (n, J), NaN when the random part has no time
    outcome: str = ""  # by name, where there are several
    past: Past | None = None  # of structures that read the outcomes
    there: Tensor | None = None  # (n,) bool: the subject has rows of this outcome; None all have


@dataclass(frozen=True)
class Rows:
    """What is known of each measurement; leading axes (N,) in a Panel, (n, J) in a Block."""

    data: Observations  # outcome, trials, prior weights
    offset: Tensor  # (N,)
    X: Tensor  # (N, p) linear fixed columns
    inputs: tuple[Tensor, ...]  # per dnn() term on the fixed side, (N, r)
    T: tuple[Tensor, ...]  # per latent term, (N, q)
    basis: tuple[Tensor, ...]  # per latent term, (N, r): coefficient basis phi, or inputs
    Z: tuple[Tensor, ...]  # per part of the formula ("zi", "dispersion"), (N, c)
    time: Tensor  # (N,)
    occasion: Tensor  # (N,) 0, 1, ... among the planned occasions of the subject
    level: tuple[Tensor, ...] = ()  # of each of several grouping factors, (N,), -1 unknown
    steady: tuple[bool, ...] = ()  # per dnn() term: its inputs are constant within every subject

    def of_term(self, i: int, outcome: str = "") -> LatentRows:
        """What the i-th (0, 1, ...) latent term sees."""
        return LatentRows(self.T[i], self.basis[i], self.time, outcome)

    def take(self, index: Tensor) -> Rows:
        """The rows at ``index`` (any shape), in the shape of ``index``."""
        return Rows(
            Observations(*(column[index] for column in self.data)),
            self.offset[index],
            self.X[index],
            tuple(block[index] for block in self.inputs),
            tuple(block[index] for block in self.T),
            tuple(block[index] for block in self.basis),
            tuple(block[index] for block in self.Z),
            self.time[index],
            self.occasion[index],
            tuple(level[index] for level in self.level),
            self.steady,
        )

    def at_columns(self, at: Tensor) -> Rows:
        """Of the rows (n, J) of a block those of some of the J."""
        return self.like(tuple(column[:, at] for column in self.columns()))

    def columns(self) -> tuple[Tensor, ...]:
        """All tensors in one flat tuple, for functions mapped over subjects."""
        fixed = (*self.data, self.offset, self.X, self.time, self.occasion)
        return (*fixed, *self.inputs, *self.T, *self.basis, *self.Z)

    def like(self, columns: tuple[Tensor, ...]) -> Rows:
        """Rows of this structure from such a tuple."""
        y, trials, weights, offset, X, time, occasion, *rest = columns
        first, second = len(self.inputs), len(self.inputs) + len(self.T)
        third = second + len(self.basis)
        return Rows(
            Observations(y, trials, weights),
            offset,
            X,
            tuple(rest[:first]),
            tuple(rest[first:second]),
            tuple(rest[second:third]),
            tuple(rest[third:]),
            time,
            occasion,
            steady=self.steady,
        )

    def followed_by(self, other: Rows) -> Rows:
        """The rows (N,) of both, without their levels of several grouping factors.

        Inputs that are constant within the subjects of each need not be so in both together.
        """
        pairs = zip(self.columns(), other.columns(), strict=True)
        both = self.like(tuple(torch.cat(pair) for pair in pairs))
        return replace(both, steady=(False,) * len(self.inputs))


class Stack(NamedTuple):
    """K outcomes of the same rows; leading axes (N,) in a panel, (n, J) in a block."""

    data: Observations  # (N, K)
    offset: Tensor  # (N, K)
    counts: Tensor  # (N, K) bool: the outcome enters the density
    X: Tensor  # (N, p), the same columns of all

    def at(self, index: Tensor, mask: Tensor) -> Stack:
        """The rows ``index`` (n, J), of which those of ``mask`` count."""
        data = Observations(*(column[index] for column in self.data))
        counts = self.counts[index] & mask[..., None]
        return Stack(data, self.offset[index], counts, self.X[index])

    def some(self, which: Tensor) -> Stack:
        """The outcomes ``which`` (K',) alone."""
        data = Observations(*(column[..., which] for column in self.data))
        return Stack(data, self.offset[..., which], self.counts[..., which], self.X)


@dataclass(frozen=True)
class Block:
    """Padded measurements of n subjects, axes (n, J); ``mask`` marks those that the density counts:

    the real ones, in a masked panel only those whose outcome was seen.
    """

    subjects: Tensor  # (n,) positions in the panel
    mask: Tensor  # (n, J) bool
    index: Tensor  # (n, J) long rows of the panel, padding repeats the first row of the subject
    rows: Rows
    there: Tensor  # (n,) bool: the subject has rows, seen or not
    beside: Sequence[Block] = ()  # the rows of further outcomes, of the same subjects

    @property
    def blocks(self) -> tuple[Block, ...]:
        """One for every outcome."""
        return (self, *self.beside)

    @property
    def stack(self) -> Stack | None:
        """The outcomes as columns, where all were measured in the same rows."""
        return getattr(self.beside, "stack", None)

    def some(self, which: Tensor) -> Block:
        """The block of some of its subjects, ``which`` (n,) bool."""
        at = torch.nonzero(which)[:, 0]
        beside = tuple(one.some(which) for one in self.beside)
        subjects, mask, index = self.subjects[at], self.mask[at], self.index[at]
        return Block(subjects, mask, index, self.rows.take(at), self.there[at], beside)

    def columns(self) -> tuple[Tensor, ...]:
        """Masks and rows of all outcomes in one flat tuple, for functions mapped over subjects."""
        return tuple(c for one in self.blocks for c in (one.mask, *one.rows.columns()))

    def like(self, columns: tuple[Tensor, ...]) -> Block:
        """The block of this structure from such a tuple."""
        found, first = [], 0
        for one in self.blocks:
            last = first + 1 + len(one.rows.columns())
            mask, *rows = columns[first:last]
            found.append(replace(one, mask=mask, rows=one.rows.like(tuple(rows)), beside=()))
            first = last
        return replace(found[0], beside=tuple(found[1:]))
