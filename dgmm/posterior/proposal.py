"""Components of a proposal for b | y: its modes, and places along what is not normal around them.

A subject who is seen in part has a posterior with shoulders: where a curve lies outside the time
seen, the prior decides. There a t around a mode misses much of the mass and gives a few draws all
the weight. Components are then put where weighted draws, half of them from the prior, say that the
mass is, and again from draws of that mixture: population Monte Carlo, Cappe, Guillin, Marin and
Robert (2004), Journal of Computational and Graphical Statistics 13, 907-929.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dgmm.model import Fixed, Model
from dgmm.numerics.quadrature import log_t, sobol_t
from dgmm.panel import Block
from dgmm.parameters import Theta
from dgmm.posterior.mixture import UNITS, Mixture, component_of, shared_out
from dgmm.posterior.modes import Anchor, factor_root, score
from dgmm.posterior.several import Components, find_all_modes, some

__all__ = ["find_components"]

FREEDOM = 5.0

CELLS = 300_000
"""(draw, subject, measurement) entries worked through at once."""

DRAWS = 256
"""Draws per subject to see whether modes are enough, and in each round where they are not."""

WIDE = 2.0
"""How much wider than the ts around modes the draws are that look beside them."""

ENOUGH = 0.4
"""Effective share of the draws around modes from which on they are."""

ROUNDS = 3


def find_components(model: Model, theta: Theta, block: Block) -> Components:
    """The modes of b | y of every subject, and places between and around them where these are few.

    Draws around modes, q, have an effective share 1 / E(p / q | y), p the density of b | y. It is
    taken over draws from further away: those of q itself do not know what they miss. Where the
    latent structures name one place for a mode it is the one component.
    """
    found = find_all_modes(model, theta, block)
    ready = model.prepare({name: value.detach() for name, value in theta.items()})
    if len(model.candidate_modes(ready)) == 1:
        return found
    with torch.no_grad():
        fixed = model.fixed(ready, block)
        share = _effective_share(model, ready, block, fixed, found)
        few = ~(share > ENOUGH)
        if not bool(few.any()):
            return found
        return _joined(found, few, _spread(model, ready, *some(block, fixed, few), found.at(few)))


def _effective_share(
    model: Model, ready: Theta, block: Block, fixed: Fixed, found: Components
) -> Tensor:
    """1 / E(p / q | y) of the mixture q around the modes, (n,)."""
    anchor, share = found.anchor, found.mass.log()
    q = Mixture(anchor.mode, anchor.root, anchor.log_det_root, share)
    wide = anchor.log_det_root + model.k * math.log(WIDE)
    q_wide = Mixture(anchor.mode, WIDE * anchor.root, wide, share)
    b, height, log_weight = _drawn(model, ready, block, fixed, q_wide)
    log_p = height - (torch.logsumexp(log_weight, 0) - math.log(DRAWS))
    mean = torch.logsumexp(torch.log_softmax(log_weight, 0) + log_p - q.log_density(b, _log_t), 0)
    return (-mean).exp()


def _drawn(
    model: Model, ready: Theta, block: Block, fixed: Fixed, q: Mixture
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws b (M, n, k) of a mixture of ts, log p(y, b) (M, n) and their log weights (M, n)."""
    counts = shared_out(q.log_share.exp(), DRAWS, 2 * UNITS)
    q = q._replace(log_share=(counts / DRAWS).log())
    e = sobol_t(1, model.k, DRAWS, np.random.default_rng(DRAWS), FREEDOM).e
    b = q.at(e, component_of(counts))
    parts = b.split(max(1, CELLS // block.mask.numel()))
    height = torch.cat([model.log_joint(ready, part, block, fixed) for part in parts])
    height = torch.where(torch.isnan(height), -torch.inf, height)
    return b, height, height - q.log_density(b, _log_t)


def _log_t(e: Tensor) -> Tensor:
    return log_t(e, FREEDOM)


def _with_prior(found: Components) -> Mixture:
    """Half of the draws around the components, half around the prior."""
    anchor, half = found.anchor, 0.5 * torch.ones_like(found.mass[:1])
    one = torch.eye(anchor.mode.shape[-1], dtype=half.dtype).expand_as(anchor.root[:1])
    return Mixture(
        torch.cat([anchor.mode, torch.zeros_like(anchor.mode[:1])]),
        torch.cat([anchor.root, one]),
        torch.cat([anchor.log_det_root, torch.zeros_like(half)]),
        torch.cat([0.5 * found.mass, half]).log(),
    )


def _spread(
    model: Model, ready: Theta, block: Block, fixed: Fixed, modes: Components
) -> Components:
    """The modes and draws resampled by their weights, UNITS components of equal mass."""
    now, first, number = modes, modes.number, torch.arange(UNITS)[:, None]
    mass = torch.full((UNITS, len(first)), 1 / UNITS, dtype=torch.float64)
    for _ in range(ROUNDS):
        b, _, log_weight = _drawn(model, ready, block, fixed, _with_prior(now))
        b = _resampled(b, log_weight, number, first)
        P = model.precision(ready, b, block, fixed)
        lost = torch.linalg.cholesky_ex(P).info > 0
        P = torch.where(lost[..., None, None], torch.eye(model.k, dtype=P.dtype), P)
        root, log_det = factor_root(P)
        slope = score(model, ready, b, block, fixed)
        there = Anchor(b, root @ root.mT, root, log_det, torch.zeros_like(log_det), slope)
        mode = torch.where(number < first, number, 0)
        modal = modes.anchor.at((mode, torch.arange(len(first))))
        pairs = zip(modal, there, strict=True)
        anchor = Anchor(*(_chosen((number < first) | lost, *pair) for pair in pairs))
        now = Components(anchor, mass, first)
    return now


def _resampled(b: Tensor, log_weight: Tensor, number: Tensor, first: Tensor) -> Tensor:
    """Draws at even points of their cumulative weights, for the places from ``first`` (n,) on."""
    share = torch.softmax(log_weight, 0).cumsum(0).T.contiguous()
    level = (number - first + 0.5) / (UNITS - first)
    place = torch.searchsorted(share, level.clamp(0, 1).T.contiguous()).clamp(max=len(b) - 1)
    return b[place.T, torch.arange(len(first))]


def _joined(found: Components, few: Tensor, spread: Components) -> Components:
    """The components of all subjects, those of some of them replaced."""
    whole = found.padded(UNITS)
    pairs = zip((*whole.anchor, whole.mass), (*spread.anchor, spread.mass), strict=True)
    for part, own in pairs:
        part[:, few] = own
    return whole


def _chosen(which: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """``one`` where ``which`` (C, n), else the other, (C, n, ...)."""
    return torch.where(which.reshape(*which.shape, *[1] * (one.ndim - 2)), one, other)
