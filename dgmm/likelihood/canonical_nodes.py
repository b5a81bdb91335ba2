"""Rows at the nodes of a quadrature, for exponential families with their canonical link.

With log p = w {y eta - m kappa(eta)} + what eta is not in, a node moves eta by T c and the rows of
a subject by

    c'sum_j T w y - sum_j w m {kappa(eta + T c) - kappa(eta)}:

of a row nothing is needed at a node but kappa and its slope.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dgmm.families import Family
from dgmm.likelihood.slabs import Slab

__all__ = ["AroundModes", "Averages"]

LARGEST = 1e5
"""The most that the rows of a subject may sum to: counts in the millions need what is relative to
their own mean."""


class Averages(NamedTuple):
    """Means over the nodes of a posterior for the gradient, weights summing to ``mass``."""

    mass: Tensor  # (n,), relative to the height of the mode
    first: Tensor  # of d log p / d eta (J, n)
    outer: Tensor  # of T'(d log p / d eta) b' (q, k, n)


@dataclass(frozen=True)
class AroundModes:
    """The rows of a slab at their modes, and what moves them."""

    family: Family
    slab: Slab
    eta: Tensor  # at the mode (J, n)
    scale: Tensor | None  # w m, zero in the padding; None where all are one
    first: Tensor  # w y (J, n), of large counts less w m kappa'
    pull: Tensor  # sum_j T w y (q, n)
    back: Tensor  # sum_j T times ``first`` (q, n)
    level: Tensor  # sum_j w m kappa(eta) (n,), of large counts 0
    large: bool
    cells: int  # rows times nodes at once

    @classmethod
    def of(cls, family: Family, slab: Slab, eta: Tensor, cells: int) -> AroundModes | None:
        """The slab at eta (J, n); None where sums are too large for the family."""
        y, trials, weights = slab.data
        counts = weights * trials
        ones = slab.mask is None and counts.numel() == 1 and float(counts) == 1.0
        scale = None if ones else slab.masked(counts)
        kappa, slope = _scaled(family.cumulant(eta), scale)
        level = kappa.sum(0)
        large = not bool((level.abs() < LARGEST).all())
        if large and family.cumulant_change(eta, eta) is None:
            return None
        wy = slab.masked((weights * y).expand(slab.shape))
        first = wy - slope if large else wy
        pull, back = _sums(slab, wy), _sums(slab, first)
        level = torch.zeros_like(level) if large else level
        return cls(family, slab, eta, scale, first, pull, back, level, large, cells)

    def _at(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """w m kappa and w m kappa' at eta + T c, c (q, m, n): (m, J, n); of large ones the change.

        Not to the size of a count but to that of its change, there are digits for them.
        """
        eta: Tensor | float = 0.0 if self.large else self.eta
        for T, own in zip(self.slab.T, c[:, :, None], strict=True):
            if T is None or isinstance(eta, float):
                eta = eta + (own if T is None else own * T)
            else:
                eta = torch.addcmul(eta, T, own)
        assert isinstance(eta, Tensor)
        if self.large:
            return _scaled(self.family.cumulant_change(self.eta, eta), self.scale)
        return _scaled(self.family.cumulant(eta), self.scale)

    def _groups(self, count: int) -> Iterator[slice]:
        """Nodes by their numbers, of so many rows as a cache holds."""
        at_once = max(1, self.cells // self.eta.numel())
        for first in range(0, count, at_once):
            yield slice(first, first + at_once)

    def heights(self, c: Tensor) -> Tensor:
        """log p of every subject at coefficients c (q, M, n), less that at the mode, (M, n)."""
        out = (c * self.pull[:, None]).sum(0) + self.level
        for some in self._groups(len(out)):
            out[some] -= self._at(c[:, some])[0].sum(1)
        return out

    def averages(self, c: Tensor, nodes: Tensor, base: Tensor) -> Averages:
        """Sums over nodes (k, M, n), whose log weights are heights plus ``base`` (M, n)."""
        q, (k, M, n) = len(self.slab.T), nodes.shape
        weight = (c * self.pull[:, None]).sum(0) + self.level + base  # its log, until it is known
        inside, total = torch.zeros_like(self.eta), torch.empty(q, M, n, dtype=torch.float64)
        for some in self._groups(M):
            kappa, slope = self._at(c[:, some])
            own = weight[some].sub_(kappa.sum(1)).exp_()
            if len(own) == 1:
                inside.addcmul_(slope[0], own[0])
            else:
                inside += (slope * own[:, None]).sum(0)
            for i, T in enumerate(self.slab.T):
                torch.sum(slope if T is None else slope * T, 1, out=total[i, some])
        pulled = torch.sub(self.back[:, None], total, out=total).mul_(weight)
        outer = torch.empty(q, k, n, dtype=torch.float64)
        for i in range(q):
            for j in range(k):
                outer[i, j] = (pulled[i] * nodes[j]).sum(0)
        mass = weight.sum(0)
        return Averages(mass, self.first * mass - inside, outer)


def _scaled(found: tuple[Tensor, Tensor] | None, scale: Tensor | None) -> tuple[Tensor, Tensor]:
    """w m times kappa and its slope."""
    assert found is not None
    return found if scale is None else (found[0] * scale, found[1] * scale)


def _sums(slab: Slab, values: Tensor) -> Tensor:
    """sum_j T values (q, n)."""
    return torch.stack([(values if T is None else values * T).sum(0) for T in slab.T])
