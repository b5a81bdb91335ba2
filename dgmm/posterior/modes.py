"""b | y at a given theta: modes by Newton, and the anchors that nodes follow."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dgmm.model import Fixed, Model
from dgmm.panel import Block
from dgmm.parameters import Theta

__all__ = ["Anchor", "Moments", "factor_root", "find_modes", "moments", "tracked"]

LARGEST_STEP = 3.0
"""Longest Newton step, in prior standard deviations."""

ITERATIONS = 60
"""Newton steps to a mode, at most."""

TRIAL = 5
"""Newton steps from every place where a mode may be, before the best is followed to the end."""


class Anchor(NamedTuple):
    """Mode a_i of p(b | y) at some theta, with P_i = I + J'W J there, and a root of P_i^-1."""

    mode: Tensor  # (n, k)
    covariance: Tensor  # (n, k, k)
    root: Tensor  # (n, k, k), root root' = covariance
    log_det_root: Tensor  # (n,)
    decrement: Tensor  # (n,) Newton decrement that was left


class Moments(NamedTuple):
    """Posterior mean and covariance of something, with the effective number of draws."""

    mean: Tensor
    covariance: Tensor
    effective: Tensor  # (n,)


def _score(
    model: Model, ready: Theta, b: Tensor, block: Block, fixed: Fixed, graph: bool
) -> Tensor:
    """d log p(y, b) / d b, (n, k)."""
    point = b.detach().requires_grad_()
    with torch.enable_grad():
        value = model.log_joint(ready, point, block, fixed).sum()
    return torch.autograd.grad(value, point, create_graph=graph)[0]


def find_modes(
    model: Model,
    theta: Theta,
    block: Block,
    start: Tensor | None = None,
    iterations: int = ITERATIONS,
    tolerance: float = 1e-12,
) -> Anchor:
    """Fisher-scoring Newton for all subjects of a block at once, each with its own step length.

    Subjects whose decrement is below ``tolerance``, or for whom no step goes up, take no further
    part; the others go on without them. Without a ``start`` (n, k) the search begins at b = 0, or
    where the latent structures may have several modes at the best of several places.
    """
    ready = model.prepare({name: value.detach() for name, value in theta.items()})
    n = len(block.subjects)
    b = _best_place(model, theta, ready, block) if start is None else start.detach().clone()
    with torch.no_grad():
        whole = model.fixed(ready, block)
        height = model.log_joint(ready, b, block, whole)
    decrement = torch.full((n,), torch.inf, dtype=torch.float64)
    at, part, fixed = torch.arange(n), block, whole  # the subjects that still move
    for _ in range(iterations):
        here = b[at]
        gradient = _score(model, ready, here, part, fixed, graph=False)
        with torch.no_grad():
            factor = torch.linalg.cholesky(model.precision(ready, here, part, fixed))
            step = torch.cholesky_solve(gradient[..., None], factor)[..., 0]
            left = (gradient * step).sum(-1)
            decrement[at] = left
            if bool((left < tolerance).all()):
                break
            step = step * (LARGEST_STEP / step.norm(dim=-1, keepdim=True)).clamp(max=1.0)
            b[at], height[at] = _line_search(model, ready, here, step, height[at], part, fixed)
            going = (left >= tolerance) & ((b[at] - here).abs() > 1e-13).any(-1)
            if not bool(going.all()):
                at, part, fixed = at[going], part.some(going), tuple(f[going] for f in fixed)
            if not len(at):
                break
    with torch.no_grad():
        root, log_det = factor_root(model.precision(ready, b, block, whole))
    return Anchor(b, root @ root.mT, root, log_det, decrement)


def _best_place(model: Model, theta: Theta, ready: Theta, block: Block) -> Tensor:
    """Where to begin, (n, k): of a few Newton steps from every place, those that lead highest."""
    n, places = len(block.subjects), model.candidate_modes(ready)
    best = places[0].expand(n, model.k).clone()
    if len(places) == 1:
        return best
    top = torch.full((n,), -torch.inf, dtype=torch.float64)
    for place in places:
        there = find_modes(model, theta, block, place.expand(n, model.k), TRIAL).mode
        with torch.no_grad():
            height = model.log_joint(ready, there, block)
        higher = height > top
        best[higher], top[higher] = there[higher], height[higher]
    return best


def _line_search(
    model: Model,
    ready: Theta,
    b: Tensor,
    step: Tensor,
    height: Tensor,
    block: Block,
    fixed: Fixed,
) -> tuple[Tensor, Tensor]:
    """Halve the step of each subject until its log p(y, b) does not fall."""
    best, top = b.clone(), height.clone()
    at, part, length = torch.arange(len(b)), block, 1.0
    for _ in range(12):
        trial = b[at] + length * step[at]
        value = model.log_joint(ready, trial, part, fixed)
        accept = value >= height[at]
        best[at[accept]], top[at[accept]] = trial[accept], value[accept]
        if bool(accept.all()):
            break
        at, part, length = at[~accept], part.some(~accept), 0.5 * length
        fixed = tuple(f[~accept] for f in fixed)
    return best, top


def factor_root(precision: Tensor) -> tuple[Tensor, Tensor]:
    """R with R R' = P^-1, and log |R|, from one Cholesky factor of P (n, k, k)."""
    factor = torch.linalg.cholesky(precision)
    identity = torch.eye(precision.shape[-1], dtype=precision.dtype).expand_as(factor)
    root = torch.linalg.solve_triangular(factor.mT, identity, upper=True)
    return root, -factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def tracked(
    model: Model, ready: Theta, anchor: Anchor, block: Block, fixed: Fixed | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """m_i(theta), R_i(theta) and log |R_i|: the Gaussian that follows theta from a fixed anchor.

    P_i(theta) = I + J'W J at a_i,   m_i = a_i + P_i^-1 d log p(y_i, b; theta) / d b at a_i,

    all differentiable in theta. For a linear Gaussian model this is the posterior at every theta,
    so the marginal likelihood has an exact gradient whatever the nodes.
    """
    fixed = model.fixed(ready, block) if fixed is None else fixed
    gradient = _score(model, ready, anchor.mode, block, fixed, graph=torch.is_grad_enabled())
    root, log_det = factor_root(model.precision(ready, anchor.mode, block, fixed))
    step = torch.einsum("nab,ncb,nc->na", root, root, gradient)
    return anchor.mode + step, root, log_det


def moments(values: Tensor, log_weight: Tensor) -> Moments:
    """Weighted mean and covariance over draws: values (M, n, d), log_weight (M, n)."""
    weight = torch.softmax(log_weight, dim=0)
    mean = torch.einsum("mn,mnd->nd", weight, values)
    centred = values - mean
    covariance = torch.einsum("mn,mna,mnb->nab", weight, centred, centred)
    return Moments(mean, covariance, 1 / weight.square().sum(0))
