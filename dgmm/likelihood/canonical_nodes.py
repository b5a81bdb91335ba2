"""Rows at the nodes of a quadrature, for exponential families with their canonical link.

With log p = w {y eta - m kappa(eta)} + what eta is not in, a node moves eta by T c and the rows of
a subject by

    c'sum_j T w y - sum_j w m {kappa(eta + T c) - kappa(eta)}:

of a row nothing is needed at a node but kappa and its slope.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from dgmm.families import Family
from dgmm.likelihood.slabs import Slab

__all__ = ["AroundModes", "Averages"]

class Averages(NamedTuple):
    """What the gradient needs of the posterior given the nodes, weights summing to ``mass``."""

    mass: Tensor  # (n,), relative to the height of the mode
    first: Tensor  # of d log p / d eta (J, n)
    to_Lambda: Tensor  # of T'(d log p / d eta) b' (q, k, n)


@dataclass(frozen=True)
class AroundModes:
    """The rows of a slab at their modes, and what moves them."""

    family: Family
    slab: Slab
    eta: Tensor  # at the mode (J, n)
    pull: Tensor  # sum_j T w y (q, n)
    scale: Tensor | None  # w m, zero in the padding; None where all are one
    level: Tensor  # sum_j w m kappa(eta) (n,)
    cells: int  # rows times nodes at once

    @classmethod
    def of(cls, family: Family, slab: Slab, eta: Tensor, cells: int) -> AroundModes:
        """The slab at eta (J, n)."""
        y, trials, weights = slab.data
        wy = slab.masked((weights * y).expand(slab.shape))
        pull = torch.stack([(wy if T is None else wy * T).sum(0) for T in slab.T])
        scale: Tensor | None = weights * trials
        if slab.mask is not None:
            scale = scale * slab.mask
        elif scale.numel() == 1 and float(scale) == 1.0:
            scale = None
        empty = cls(family, slab, eta, pull, scale, eta, cells)
        return replace(empty, level=empty._rows(eta)[0].sum(0))

    def _rows(self, eta: Tensor) -> tuple[Tensor, Tensor]:
        """w m kappa and w m kappa' (J, n)."""
        found = self.family.cumulant(eta)
        assert found is not None
        if self.scale is None:
            return found
        return found[0] * self.scale, found[1] * self.scale

    def _at(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """The same at eta + T c, c (q, m, n): (m, J, n)."""
        eta = self.eta
        for T, own in zip(self.slab.T, c[:, :, None], strict=True):
            eta = eta + own if T is None else torch.addcmul(eta, T, own)
        return self._rows(eta)

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
        pulled = torch.sub(self.pull[:, None], total, out=total).mul_(weight)
        to_Lambda = torch.empty(q, k, n, dtype=torch.float64)
        for i in range(q):
            for j in range(k):
                to_Lambda[i, j] = (pulled[i] * nodes[j]).sum(0)
        mass = weight.sum(0)
        y, _, weights = self.slab.data
        first = self.slab.masked((weights * y).expand(self.slab.shape)) * mass - inside
        return Averages(mass, first, to_Lambda)
