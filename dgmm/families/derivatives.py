"""Derivatives of a log-density in all its predictors: closed form, or autograd element by element.

A family has S = 1 + R predictors per row: eta, and its R extra parameters. The first derivatives
are needed in all of them, higher ones only where a random effect enters (``moving``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dgmm.families.base import Family, Observations

__all__ = ["RowDerivatives", "row_derivatives"]


class RowDerivatives(NamedTuple):
    """log p and its derivatives, each (..., J); keys are positions of predictors."""

    value: Tensor
    first: tuple[Tensor, ...]  # S
    second: dict[tuple[int, int], Tensor]  # (a, s), a moving, s any
    third: dict[tuple[int, int, int], Tensor]  # (a, b, s), a <= b moving, s any
    fourth: Tensor | None = None  # of one predictor, where the family has it in closed form


def row_derivatives(
    family: Family,
    data: Observations,
    predictors: Sequence[Tensor],
    moving: Sequence[int],
    order: int,
    among: Collection[int] | None = None,
) -> RowDerivatives:
    """Derivatives up to ``order`` (1 to 4) of log p(y | predictors), elementwise.

    among: the predictors that are differentiated, by default all; in others derivatives are zero.
    """
    if len(predictors) == 1:
        empty = predictors[0].new_zeros(0)
        closed = family.derivatives(data, predictors[0], empty, order)
        if closed is not None:
            return RowDerivatives(
                closed.value,
                (closed.first,),
                {(0, 0): closed.second},
                {(0, 0, 0): closed.third},
                closed.fourth,
            )
    return _by_autograd(family, data, predictors, moving, order, among)


def _by_autograd(
    family: Family,
    data: Observations,
    predictors: Sequence[Tensor],
    moving: Sequence[int],
    order: int,
    among: Collection[int] | None,
) -> RowDerivatives:
    with torch.enable_grad():
        points = [
            p.detach().clone().requires_grad_(among is None or s in among)
            for s, p in enumerate(predictors)
        ]
        extra = torch.stack(points[1:]) if len(points) > 1 else points[0].new_zeros(0)
        value = family.log_density(data, points[0], extra)
        first = _slopes(value, points, order > 1)
        second: dict[tuple[int, int], Tensor] = {}
        third: dict[tuple[int, int, int], Tensor] = {}
        if order > 1:
            for a in moving:
                rows = _slopes(first[a], points, order > 2)
                second |= {(a, s): row for s, row in enumerate(rows)}
                if order > 2:
                    for b in (b for b in moving if b >= a):
                        cubes = _slopes(rows[b], points, False)
                        third |= {(a, b, s): cube for s, cube in enumerate(cubes)}
    return RowDerivatives(
        value.detach(),
        tuple(f.detach() for f in first),
        {key: v.detach() for key, v in second.items()},
        {key: v.detach() for key, v in third.items()},
    )


def _slopes(value: Tensor, points: list[Tensor], graph: bool) -> tuple[Tensor, ...]:
    """d value / d point for every point, elementwise; zero where there is no dependence."""
    if not value.requires_grad:
        return tuple(torch.zeros_like(p) for p in points)
    moved = [p for p in points if p.requires_grad]
    slopes = torch.autograd.grad(
        value.sum(), moved, create_graph=graph, retain_graph=True, allow_unused=True
    )
    found = iter(slopes)
    every = [next(found) if p.requires_grad else None for p in points]
    return tuple(
        torch.zeros_like(p) if f is None else f for p, f in zip(points, every, strict=True)
    )
