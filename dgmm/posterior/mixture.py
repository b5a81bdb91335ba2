"""A mixture of one density around every component of a proposal for b | y.

    q(b) = sum_c a_c f(R_c^-1 (b - m_c)) / |R_c|

With draws from all components, each weighted against the whole of q, a mode that has few of them
does no harm: Veach and Guibas (1995), SIGGRAPH 29, 419-428; Owen and Zhou (2000), JASA 95, 135-143.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["UNITS", "Mixture", "component_of", "shared_out"]

UNITS = 16
"""Parts into which the draws of a subject are shared out; every component has one at least."""


class Mixture(NamedTuple):
    """Its C components for n subjects."""

    mean: Tensor  # (C, n, k)
    root: Tensor  # (C, n, k, k), upper triangular
    log_det_root: Tensor  # (C, n)
    log_share: Tensor  # (C, n) of every subject, -inf where there is no such component

    def at(self, e: Tensor, component: Tensor) -> Tensor:
        """b (M, n, k) of draws e (M, n, k) from f in the components given, (M, n)."""
        subject = torch.arange(component.shape[1])
        step = self.root[component, subject] @ e[..., None]
        return self.mean[component, subject] + step[..., 0]

    def log_density(self, b: Tensor, log_base: Callable[[Tensor], Tensor]) -> Tensor:
        """log q(b), (M, n), at b (M, n, k); ``log_base`` is log f, (..., k) -> (...)."""
        parts = []
        for mean, root, log_det, log_share in zip(*self, strict=True):
            gap = (b - mean).permute(1, 2, 0)
            e = torch.linalg.solve_triangular(root, gap, upper=True).permute(2, 0, 1)
            parts.append(log_base(e) - log_det + log_share)
        return torch.logsumexp(torch.stack(parts), 0)


def shared_out(mass: Tensor, draws: int, units: int = UNITS) -> Tensor:
    """How many of the ``draws`` every component gets, (C, n), for masses (C, n) that add up to one.

    One of ``units`` parts for each, the others by mass and the largest remainders: the draws of a
    component are whole parts of a low-discrepancy sequence. Of fewer draws than components the
    first ones get one each.
    """
    units = min(units, draws)
    there = ((mass > 0) & ((mass > 0).cumsum(0) <= units)).long()
    quota = mass * (units - there.sum(0))
    whole = (quota + 1e-9).floor()
    left = units - there.sum(0) - whole.sum(0)
    remainder = ((quota - whole) * 1e6).round()  # rounding must not decide between equal ones
    order = remainder.argsort(dim=0, descending=True, stable=True).argsort(dim=0)
    parts = there + whole.long() + (order < left).long()
    ends = torch.round(parts.cumsum(0) * (draws / units)).long()
    return ends.diff(dim=0, prepend=torch.zeros_like(ends[:1]))


def component_of(counts: Tensor) -> Tensor:
    """The component of every draw, (M, n), the first ones in the first: counts (C, n)."""
    draw = torch.arange(int(counts[:, 0].sum()))[:, None]
    ends = counts.cumsum(0)[:-1]
    return (draw >= ends[:, None]).sum(0)
