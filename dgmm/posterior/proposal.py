"""Where nodes for b | y are put: around the mode, or with the mean and the covariance of b | y.

A subject who is seen in part has a posterior with shoulders: where a curve lies outside the time
seen, the prior decides. There nodes around a mode miss much of the mass and give a few of them all
the weight. Such a subject gets one density around

    a_i = E(b | y_i),   S_i S_i' = var(b | y_i),

weighted means over draws of ts around the mode and the moments before, at first around all modes.
Quadrature around these moments: Naylor and Smith (1982), Applied Statistics 31, 214-225; importance
sampling: Oh and Berger (1992), Journal of Statistical Computation and Simulation 41, 143-168.

How far a posterior is from normal is said by the Kullback-Leibler divergence from the normal
density with these moments to the one around the mode m_i with R_i R_i' = P_i^-1. Where it is small,
nodes are around the mode and follow it to another theta; where it is moderate they follow the mode
too, moved and reshaped by R_i^-1 (a_i - m_i) and R_i^-1 S_i; where it is large they stay where they
are, because derivatives through a mode far from the mass are mostly noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgmm.model import Model
from dgmm.numerics.quadrature import log_t, sobol_t
from dgmm.panel import Block
from dgmm.parameters import Theta
from dgmm.posterior.mixture import Mixture, component_of, shared_out
from dgmm.posterior.modes import ITERATIONS, Anchor, factor_root, find_modes, moments
from dgmm.posterior.several import Modes, find_all_modes

__all__ = ["Places", "find_places"]

FREEDOM = 5.0

DRAWS = 256
"""Draws per subject of which the moments are taken."""

CELLS = 300_000
"""(draw, subject, measurement) entries worked through at once."""

HELD = 2.0
"""Effective draws per dimension that the covariance before stands for."""

NORMAL, FAR = 0.05, 0.3
"""Nats up to which a posterior counts as normal, and from which on nodes stay."""

FIRST = 2
"""Rounds of draws from the modes to the moments; from those at a theta nearby it takes one."""


class Places(NamedTuple):
    """Where the nodes of every subject are, at some theta."""

    anchor: Anchor  # (n, ...)
    follows: Tensor  # (n,) bool: the anchor is a mode, which is followed to another theta
    shift: Tensor  # (n, k) in units of the root of the anchor
    shape: Tensor  # (n, k, k), upper triangular: the root is that of the anchor times this

    @classmethod
    def of(cls, anchor: Anchor) -> Places:
        """Around modes."""
        one = torch.eye(anchor.root.shape[-1], dtype=anchor.root.dtype).expand_as(anchor.root)
        follows = torch.ones(len(anchor.mode), dtype=torch.bool)
        return cls(anchor, follows, torch.zeros_like(anchor.mode), one)

    @classmethod
    def of_all(cls, parts: Sequence[tuple[Tensor, Places]]) -> Places:
        """Those of all subjects from those of some at a time, each with their positions."""
        order = torch.cat([at for at, _ in parts]).argsort()
        anchors = zip(*(part.anchor for _, part in parts), strict=True)
        others = zip(*(part[1:] for _, part in parts), strict=True)
        return cls(
            Anchor(*(torch.cat(one)[order] for one in anchors)),
            *(torch.cat(one)[order] for one in others),
        )

    def at(self, which: Tensor) -> Places:
        """Those of some subjects."""
        return Places(self.anchor.at(which), *(part[which] for part in self[1:]))

    def followed(self, model: Model, theta: Theta, block: Block) -> Places:
        """The modes at another theta; other places stay."""
        if not bool(self.follows.any()):
            return self
        start = self.anchor.mode[self.follows]
        moved = find_modes(model, theta, block.some(self.follows), start)
        whole = Anchor(*(part.clone() for part in self.anchor))
        for part, own in zip(whole, moved, strict=True):
            part[self.follows] = own
        return self._replace(anchor=whole)

    def around(self, mode: Tensor, root: Tensor, log_det: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, root and log determinant of the nodes where the anchor has moved."""
        mean = mode + torch.einsum("nab,nb->na", root, self.shift)
        more = self.shape.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return mean, root @ self.shape, log_det + more

    @property
    def placed(self) -> Anchor:
        """Mean and covariance of the density that the nodes are of."""
        anchor = self.anchor
        mean, root, log_det = self.around(anchor.mode, anchor.root, anchor.log_det_root)
        return Anchor(mean, root @ root.mT, root, log_det, anchor.decrement)


def find_places(
    model: Model,
    theta: Theta,
    block: Block,
    near: Places | None = None,
    iterations: int = ITERATIONS,
) -> Places:
    """Places for nodes at theta; ``near``: those at a theta nearby.

    Where every latent structure is linear b | y has one mode, and that is taken.

    iterations: Newton steps at most from the places nearby.
    """
    start = None if near is None else near.anchor.mode
    if all(latent.linear for latent in model.latents):
        return Places.of(find_modes(model, theta, block, start, iterations))
    ready = model.prepare({name: value.detach() for name, value in theta.items()})
    if near is None:
        tried, rounds = find_all_modes(model, theta, block), FIRST
        mode = tried.anchor.at(0)
    else:
        mode, rounds = find_modes(model, theta, block, start, iterations), 1
        tried = Modes.pair(mode, near.placed)
    for number in range(rounds):
        found = _matched(model, ready, block, tried, number)
        tried = Modes.pair(mode, found)
    return _chosen(Places.of(mode), found)


def _chosen(around: Places, found: Anchor) -> Places:
    """The modes, the moments found, or the modes with what makes moments of them."""
    mode = around.anchor
    gap = torch.linalg.solve_triangular(mode.root, (found.mode - mode.mode)[..., None], upper=True)
    shape = torch.linalg.solve_triangular(mode.root, found.root, upper=True)
    # the divergence of normal densities in the coordinates of the one around the mode
    square = shape.square().sum((-2, -1)) + gap.square().sum((-2, -1)) - gap.shape[-2]
    divergence = 0.5 * square - shape.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    moved, stays = (divergence > NORMAL) & (divergence < FAR), ~(divergence < FAR)
    pairs = zip(found, mode, strict=True)
    return Places(
        Anchor(*(torch.where(_like(stays, own), own, other) for own, other in pairs)),
        ~stays,
        torch.where(moved[:, None], gap[..., 0], around.shift),
        torch.where(moved[:, None, None], shape, around.shape),
    )


@torch.no_grad()
def _matched(model: Model, ready: Theta, block: Block, around: Modes, number: int) -> Anchor:
    """The moments of b | y, weighted means over draws of ts around some places."""
    anchor = around.anchor
    counts = shared_out(around.mass, DRAWS)
    q = Mixture(anchor.mode, anchor.root, anchor.log_det_root, (counts / DRAWS).log())
    e = sobol_t(1, model.k, DRAWS, np.random.default_rng([DRAWS, number]), FREEDOM).e
    b, fixed = q.at(e, component_of(counts)), model.fixed(ready, block)
    parts = b.split(max(1, CELLS // block.mask.numel()))
    height = torch.cat([model.log_joint(ready, part, block, fixed) for part in parts])
    height = torch.where(torch.isnan(height), -torch.inf, height)
    found = moments(b, height - q.log_density(b, _log_t))
    held = HELD * model.k
    share = (held / (held + found.effective))[:, None, None]
    covariance = (1 - share) * found.covariance + share * anchor.covariance[0]
    root, log_det = factor_root(torch.linalg.inv(covariance))
    return Anchor(found.mean, covariance, root, log_det, torch.zeros_like(log_det))


def _like(which: Tensor, part: Tensor) -> Tensor:
    """(n,) in the shape of a part (n, ...)."""
    return which.reshape(-1, *[1] * (part.ndim - 1))


def _log_t(e: Tensor) -> Tensor:
    return log_t(e, FREEDOM)
