"""Rows as steps: those of a subject, of all outcomes that a recursion enters, on one line of time.

A step is a visit of a grid, with a row or without, or else a time at which some outcome has a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dgmm.panel import LatentRows, ranks, together

__all__ = ["Steps", "steps_of"]


class Steps(NamedTuple):
    """The rows of a block as steps of a recursion that enters K outcomes."""

    x: Tensor  # (n, G, c) inputs
    residual: Tensor  # (n, G, K), zero where not seen
    spread: Tensor  # (n, G, K)
    seen: Tensor  # (n, G, K) bool
    real: Tensor  # (n, G) bool: the subject has this step
    places: tuple[Tensor, ...]  # of every outcome the step of every row, (n, J)
    shown: Tensor | None = None  # (n, G, S): factors of the state as the networks see it

    @property
    def number(self) -> int:
        """G."""
        return self.real.shape[1]

    @property
    def gain(self) -> Tensor:
        """1 / (1 + v) with v the variance of a residual, (n, G, K): by it one outcome alone tells
        of a deviation of eta that is standard normal.
        """
        return 1 / (1 + self.spread.square())

    def shrunk(self) -> Steps:
        """With residuals times their gain."""
        return self._replace(residual=self.gain * self.residual)


def steps_of(
    rows: Sequence[LatentRows], grid: bool, usual: float, inputs: tuple[Tensor, Tensor]
) -> Steps:
    """The steps of the rows of every outcome; of rows at one time the first counts.

    Rows that are those of K outcomes say what they know of the past of all in columns, (n, J, K).

    grid: steps are visits 1, 2, ..., with a row or without, and have no gaps to be told.
    usual: the gap that is told as zero.
    inputs: means and spreads (c,) of the inputs in the basis of the rows, none without.
    """
    there = [one.there if one.there is not None else _true(one.T[:, 0, 0]) for one in rows]
    time = together([one.T[..., 0] for one in rows], there)
    places = _visits(time) if grid else ranks(time)
    size = max(int(one.max()) for one in places) + 1
    sources, held = [], []
    for place, here in zip(places, there, strict=True):
        real = _first_of_step(place) & here[:, None]
        slot = torch.where(real, place, size)
        row = torch.arange(place.shape[1]).expand_as(slot)
        source = torch.zeros(len(slot), size + 1, dtype=torch.long).scatter(1, slot, row)
        sources.append(torch.cummax(source[:, :size], dim=1).values)
        empty = torch.zeros(len(slot), size + 1, dtype=torch.bool)
        held.append(empty.scatter(1, slot, real)[:, :size])
    last = torch.stack([place.max(1).values for place in places]).amax(0)
    centre, spread = inputs
    columns = [] if grid else [_gaps(time, sources, held, usual)]
    if len(centre):
        u = [(one.basis - centre) / spread for one in rows]
        columns.append(_at_steps(u, sources, held))
    x = torch.cat(columns, dim=-1) if columns else time[0].new_zeros(*held[0].shape, 0)
    told = [_told(*one) for one in zip(rows, sources, held, strict=True)]
    residual, sd, seen = (torch.cat(some, dim=-1) for some in zip(*told, strict=True))
    of_rows = [
        place for place, own in zip(places, told, strict=True) for _ in range(own[0].shape[-1])
    ]
    return Steps(x, residual, sd, seen, torch.arange(size) <= last[:, None], tuple(of_rows))


def _told(rows: LatentRows, source: Tensor, held: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Residual, spread and whether it was seen at every step, (n, G, K) each of K outcomes."""
    if rows.past is None:
        nothing = torch.zeros(*source.shape, 1, dtype=rows.T.dtype)
        return nothing, nothing, torch.zeros_like(held)[..., None]
    residual, spread, seen = (one if one.ndim == 3 else one[..., None] for one in rows.past)
    place = source[..., None].expand(-1, -1, seen.shape[-1])
    seen = seen.gather(1, place) & held[..., None]
    residual = torch.where(seen, residual.gather(1, place), 0.0)
    return residual, spread.gather(1, place), seen


def _true(like: Tensor) -> Tensor:
    return torch.ones(len(like), dtype=torch.bool)


def _visits(time: Sequence[Tensor]) -> list[Tensor]:
    """The visit of every row, counted from the first of its subject."""
    first = torch.stack([one.amin(1) for one in time]).amin(0)[:, None]
    return [(one - first).round().long() for one in time]


def _first_of_step(place: Tensor) -> Tensor:
    """Rows that are the first of their outcome at their step; padding never is."""
    before = torch.cummax(place, dim=1).values[:, :-1]
    later = place[:, 1:] > before
    return torch.cat([torch.ones_like(place[:, :1], dtype=torch.bool), later], dim=1)


def _at_steps(
    values: Sequence[Tensor], sources: Sequence[Tensor], held: Sequence[Tensor]
) -> Tensor:
    """Columns (n, J, c) of every outcome at the steps, (n, G, c): those of the first outcome with
    a row there; between rows they stay.
    """
    every, first = torch.cat(list(values), dim=1), [0]
    for one in values:
        first.append(first[-1] + one.shape[1])
    chosen = sources[0]
    for o in reversed(range(len(values))):
        chosen = torch.where(held[o], first[o] + sources[o], chosen)
    some = torch.stack(list(held)).any(0)
    step = torch.arange(some.shape[1]).expand_as(chosen)
    kept = torch.cummax(torch.where(some, step, 0), dim=1).values
    source = chosen.gather(1, kept)
    return every.gather(1, source[..., None].expand(-1, -1, every.shape[-1]))


def _gaps(
    time: Sequence[Tensor], sources: Sequence[Tensor], held: Sequence[Tensor], usual: float
) -> Tensor:
    """Gaps before every step in usual ones, less one, (n, G, 1): zero where there is none."""
    at = _at_steps([one[..., None] for one in time], sources, held)[..., 0]
    gap = torch.ones_like(at)
    gap[:, 1:] = (at[:, 1:] - at[:, :-1]) / usual
    return gap[..., None] - 1
