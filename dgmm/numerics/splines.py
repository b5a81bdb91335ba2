"""Natural cubic splines kept as pieces, taken at many places at once.

A function is a table of pieces (4, m + 1): the powers of the distance from the knot at the left, in
steps between its m equally spaced knots. A place is x counted in these steps from the first knot.
Looking up four numbers costs less than as many columns of a basis as there are knots.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

__all__ = ["Spline", "height", "height_and_rise"]


@dataclass(frozen=True)
class Spline:
    """Columns on m equally spaced knots, linear beyond the outer ones."""

    first: float
    step: float
    pieces: Tensor  # (m + 1, 4, r), column by column

    @classmethod
    def natural(cls, first: float, last: float, m: int) -> Spline:
        """The m columns that are one at a knot each."""
        splines = CubicSpline(np.arange(m), np.eye(m), bc_type="natural")
        inner = splines.c[::-1].transpose(1, 0, 2)
        outer = np.zeros((2, 4, m))
        for side, end in enumerate((0, m - 1)):
            outer[side, 0], outer[side, 1] = splines(end), splines(end, 1)
        outer[0, 0] -= outer[0, 1]  # the piece before the first knot is taken from a step before it
        pieces = torch.from_numpy(np.concatenate([outer[:1], inner, outer[1:]]))
        return cls(first, (last - first) / (m - 1), pieces)

    def knots(self) -> Tensor:
        """x at all knots, (m,)."""
        count = torch.arange(
            len(self.pieces) - 1, dtype=self.pieces.dtype, device=self.pieces.device
        )
        return self.first + self.step * count

    def place(self, x: Tensor) -> Tensor:
        """x counted in steps from the first knot."""
        return (x - self.first) / self.step

    def turned(self, S: Tensor) -> Spline:
        """The columns times S (r, r')."""
        return replace(self, pieces=self.pieces @ S)

    def table(self, weights: Tensor) -> Tensor:
        """The pieces of the columns times weights (r,)."""
        return torch.einsum("jpr,r->pj", self.pieces, weights)

    def columns(self, x: Tensor) -> Tensor:
        """All columns at x (N,), (N, r)."""
        place = self.place(x)
        return torch.stack([height(one, place) for one in self.pieces.permute(2, 1, 0)], dim=-1)


def height(table: Tensor, place: Tensor) -> Tensor:
    """The function of a table at places of any shape."""
    u, (c0, c1, c2, c3) = _near(table, place)
    return torch.addcmul(c0, torch.addcmul(c1, torch.addcmul(c2, c3, u), u), u)


def height_and_rise(table: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """The function and its derivative, per step between knots."""
    u, (c0, c1, c2, c3) = _near(table, place)
    inner = torch.addcmul(c2, c3, u)
    up = torch.addcmul(c1, inner, u)
    return torch.addcmul(c0, up, u), torch.addcmul(up, torch.addcmul(inner, c3, u), u)


def _near(table: Tensor, place: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The distance from the knot at the left, and the coefficients of the piece."""
    left = place.detach().floor().clamp(-1, table.shape[1] - 2)
    index = (left + 1).long().reshape(-1)
    return place - left, [row.index_select(0, index).reshape(place.shape) for row in table]
