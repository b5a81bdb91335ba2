"""All modes of b | y at a given theta.

Curves that b moves in time, and networks, explain half of a profile in more than one way. Newton
goes from every place that the latent structures name; what it reaches is sorted by height, and a
place near a higher one is the same mode.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from dgmm.model import Fixed, Model
from dgmm.panel import Block
from dgmm.parameters import Theta
from dgmm.posterior.modes import (
    Anchor,
    Climb,
    anchored,
    by_height,
    climb,
    factor_root,
    find_modes,
    trials,
)

__all__ = ["Modes", "find_all_modes"]

MOST = 4
"""Largest number of modes of a subject."""

SAME = 0.05
"""Distance, in prior standard deviations, below which two trials are on their way to one mode."""

HOPELESS = 20.0
"""What a trial, with all that a quadratic promises, may be below the best and still go on."""

DISTINCT = 1.0
"""Distance from a higher mode, in posterior standard deviations there, below which a place is
that mode: a wide proposal around it covers both."""

NEGLIGIBLE = 1e-4
"""Mass, relative to the largest, of a mode that is left out."""


class Modes(NamedTuple):
    """The modes of b | y of every subject, the highest first.

    Every subject has C places; of one with fewer modes the last ones repeat the first.
    """

    anchor: Anchor  # (C, n, ...)
    mass: Tensor  # (C, n) of every mode, adding up to one; 0 where there is none

    @classmethod
    def single(cls, anchor: Anchor) -> Modes:
        """One for every subject."""
        one = torch.ones(1, len(anchor.mode), dtype=torch.float64)
        return cls(Anchor(*(part[None] for part in anchor)), one)

    @classmethod
    def pair(cls, one: Anchor, other: Anchor) -> Modes:
        """Two for every subject, of the same mass."""
        anchor = Anchor(*(torch.stack(parts) for parts in zip(one, other, strict=True)))
        return cls(anchor, torch.full_like(anchor.log_det_root, 0.5))

    @property
    def number(self) -> Tensor:
        """Number of modes of every subject, (n,)."""
        return (self.mass > 0).sum(0)


def find_all_modes(model: Model, theta: Theta, block: Block) -> Modes:
    """The distinct modes of b | y of every subject, with their Laplace masses exp(height) |P|^-1/2.

    Raises:
        torch.linalg.LinAlgError: no place of a subject has a finite precision.
    """
    ready = model.prepare({name: value.detach() for name, value in theta.items()})
    if len(model.candidate_modes(ready)) == 1:
        return Modes.single(find_modes(model, theta, block))
    with torch.no_grad():
        fixed = model.fixed(ready, block)
    tried = trials(model, ready, block, fixed)
    tried = Climb(*_sorted(by_height(tried.height), *tried))
    best = climb(model, ready, block, fixed, tried.b[0])
    places = _promising(tried, best, anchored(model, ready, block, fixed, best))
    return _distinct(model, ready, block, fixed, _ends(model, ready, block, fixed, best, places))


def _promising(tried: Climb, best: Climb, anchor: Anchor) -> Tensor:
    """Trials but the first that are worth following to the end, (c, n, k), NaN where they end."""
    worth = tried.height + tried.decrement > best.height - HOPELESS
    worth &= _distance(anchor.root, tried.b - anchor.mode) > DISTINCT
    apart = (tried.b[:, None] - tried.b).norm(dim=-1)
    keep = _first_ones(worth, apart < SAME)[1:]
    return torch.where(keep[..., None], tried.b[1:], torch.nan)[keep.any(-1)]


def _ends(
    model: Model, ready: Theta, block: Block, fixed: Fixed, best: Climb, places: Tensor
) -> Climb:
    """The best, and where Newton ends from other places (c, n, k); a height of -inf without one."""
    there = torch.isfinite(places).all(-1)
    low = torch.full(there.shape, -torch.inf, dtype=torch.float64)
    pairs = zip(best, (places, low, low), strict=True)
    found = Climb(*(torch.cat([own[None], other]) for own, other in pairs))
    for number, who in enumerate(there, start=1):
        part, known = _some(block, fixed, who)
        end = climb(model, ready, part, known, found.b[number, who])
        for whole, own in zip(found, end, strict=True):
            whole[number, who] = own
    return found


def _distinct(model: Model, ready: Theta, block: Block, fixed: Fixed, found: Climb) -> Modes:
    """One of each mode, with its normal approximation."""
    P = torch.eye(model.k, dtype=torch.float64).repeat(*found.height.shape, 1, 1)
    for number, who in enumerate(torch.isfinite(found.height)):
        part, known = _some(block, fixed, who)
        with torch.no_grad():
            P[number, who] = model.precision(ready, found.b[number, who], part, known)
    lost = torch.linalg.cholesky_ex(P).info > 0
    P[lost] = torch.eye(model.k, dtype=torch.float64)
    height = torch.where(lost, -torch.inf, found.height)
    if not bool(torch.isfinite(height).any(0).all()):
        raise torch.linalg.LinAlgError("the density or precision of b given y is not finite")
    b, P, height, decrement = _sorted(by_height(height), found.b, P, height, found.decrement)
    root, log_det = factor_root(P)
    keep = _first_ones(height > -torch.inf, _distance(root[:, None], b - b[:, None]) < DISTINCT)
    log_mass = torch.where(keep, height + log_det, -torch.inf)
    keep &= log_mass > log_mass.max(0).values + math.log(NEGLIGIBLE)
    keep &= by_height(log_mass).argsort(dim=0) < MOST
    order = keep.int().argsort(dim=0, descending=True, stable=True)[: int(keep.sum(0).max())]
    keep, log_mass, *parts = _sorted(order, keep, log_mass, b, root, log_det, decrement)
    b, root, log_det, decrement = (_repeated(part, keep) for part in parts)
    anchor = Anchor(b, root @ root.mT, root, log_det, decrement)
    mass = torch.softmax(torch.where(keep, log_mass, -torch.inf), 0)
    return Modes(anchor, mass)


def _some(block: Block, fixed: Fixed, who: Tensor) -> tuple[Block, Fixed]:
    """Some subjects of a block with mu1 of their rows."""
    if bool(who.all()):
        return block, fixed
    return block.some(who), tuple(part[who] for part in fixed)


def _distance(root: Tensor, gap: Tensor) -> Tensor:
    """|R^-1 gap|: root (..., k, k), upper triangular, gap (..., k)."""
    return torch.linalg.solve_triangular(root, gap[..., None], upper=True)[..., 0].norm(dim=-1)


def _sorted(order: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
    """Parts (c, n, ...) in an order (C, n) of the places of every subject."""
    return tuple(part[order, torch.arange(order.shape[1])] for part in parts)


def _first_ones(there: Tensor, near: Tensor) -> Tensor:
    """Places (c, n) near none kept before; near[s, r], (c, c, n): the r-th is near the s-th."""
    keep = there.clone()
    for r in range(1, len(keep)):
        keep[r] &= ~(near[:r, r] & keep[:r]).any(0)
    return keep


def _repeated(part: Tensor, keep: Tensor) -> Tensor:
    """The first in place of those that are not kept, (c, n, ...)."""
    return torch.where(keep.reshape(*keep.shape, *[1] * (part.ndim - 2)), part, part[0])
