"""b | y at a given theta: modes by Newton, and the anchors that nodes follow."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dgmm.model import Fixed, Model
from dgmm.panel import Block
from dgmm.parameters import Theta

__all__ = [
    "Anchor",
    "Climb",
    "Moments",
    "anchored",
    "by_height",
    "climb",
    "factor_root",
    "find_modes",
    "mean_shift",
    "moments",
    "tracked",
    "trials",
    "weighted_moments",
]

LARGEST_STEP = 3.0
"""Longest Newton step, in prior standard deviations."""

ITERATIONS = 60
"""Newton steps to a mode, at most."""

TRIAL = 5
"""Newton steps from every place where a mode may be, before the best is followed to the end."""

TIE = 1e-6
"""Difference of heights that rounding may make: of two such places the first is taken."""

SKEW_STEP = 1e-3
"""Step of second differences, in standard deviations of b given y."""


class Anchor(NamedTuple):
    """Mode a_i of p(b | y) at some theta, with P_i = I + J'W J there, and a root of P_i^-1."""

    mode: Tensor  # (n, k)
    covariance: Tensor  # (n, k, k)
    root: Tensor  # (n, k, k), root root' = covariance
    log_det_root: Tensor  # (n,)
    decrement: Tensor  # (n,) Newton decrement that was left

    def at(self, which: int | Tensor | tuple[Tensor, ...]) -> Anchor:
        """The anchor of some subjects, or of one component where there are several."""
        return Anchor(*(part[which] for part in self))


class Climb(NamedTuple):
    """Where Newton ended, from one place or, with a leading axis, from several."""

    b: Tensor  # (n, k)
    height: Tensor  # (n,) log p(y, b); -inf where the precision was not finite
    decrement: Tensor  # (n,) Newton decrement before the last step


class Moments(NamedTuple):
    """Posterior mean and covariance of something, with the effective number of draws."""

    mean: Tensor
    covariance: Tensor
    effective: Tensor  # (n,)


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
    with torch.no_grad():
        fixed = model.fixed(ready, block)
    if start is None:
        tried = trials(model, ready, block, fixed)
        start = tried.b[by_height(tried.height)[0], torch.arange(len(block.subjects))]
    found = climb(model, ready, block, fixed, start, iterations, tolerance)
    return anchored(model, ready, block, fixed, found)


def climb(
    model: Model,
    ready: Theta,
    block: Block,
    fixed: Fixed,
    start: Tensor,
    iterations: int = 60,
    tolerance: float = 1e-12,
) -> Climb:
    """:func:`find_modes` without what is made of the mode; ``fixed`` is mu1 of the rows."""
    b = start.detach().clone()
    with torch.no_grad():
        height = model.log_joint(ready, b, block, fixed)
        height = torch.where(torch.isnan(height), -torch.inf, height)
    decrement = torch.full((len(b),), torch.inf, dtype=torch.float64)
    at, part = torch.arange(len(b)), block  # the subjects that still move
    for _ in range(iterations):
        if not len(at):
            break
        here = b[at]
        with torch.no_grad():
            gradient, P = model.slope_and_precision(ready, here, part, fixed)
            factor, failed = torch.linalg.cholesky_ex(P)
            step = torch.cholesky_solve(gradient[..., None], factor)[..., 0]
            left = (gradient * step).sum(-1)
            lost = (failed > 0) | ~torch.isfinite(left)
            if bool(lost.any()):
                height[at[lost]] = -torch.inf
                at, part, fixed = at[~lost], part.some(~lost), tuple(f[~lost] for f in fixed)
                here, step, left = here[~lost], step[~lost], left[~lost]
            decrement[at] = left
            if bool((left < tolerance).all()):
                break
            step = step * (LARGEST_STEP / step.norm(dim=-1, keepdim=True)).clamp(max=1.0)
            b[at], height[at] = _line_search(model, ready, here, step, height[at], part, fixed)
            going = (left >= tolerance) & ((b[at] - here).abs() > 1e-13).any(-1)
            if not bool(going.all()):
                at, part, fixed = at[going], part.some(going), tuple(f[going] for f in fixed)
    return Climb(b, height, decrement)


def anchored(model: Model, ready: Theta, block: Block, fixed: Fixed, found: Climb) -> Anchor:
    """The normal approximation where Newton ended."""
    with torch.no_grad():
        root, log_det = factor_root(model.precision(ready, found.b, block, fixed))
    return Anchor(found.b, root @ root.mT, root, log_det, found.decrement)


def trials(model: Model, ready: Theta, block: Block, fixed: Fixed) -> Climb:
    """A few steps from every place where a mode may be; with one place that place itself."""
    n, places = len(block.subjects), model.candidate_modes(ready)
    starts = [place.expand(n, model.k) for place in places]
    if len(starts) == 1:
        return Climb(torch.stack(starts), *torch.zeros(2, 1, n, dtype=torch.float64))
    found = [climb(model, ready, block, fixed, start, TRIAL) for start in starts]
    return Climb(*(torch.stack(part) for part in zip(*found, strict=True)))


def by_height(height: Tensor) -> Tensor:
    """The order of places (c, n) from the highest down, the earlier first in a tie, (c, n)."""
    first = TIE * torch.arange(len(height), dtype=height.dtype)[:, None]
    return (height - first).argsort(dim=0, descending=True, stable=True)


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

    P_i(theta) = I + J'W J,   m_i = a_i + P_i^-1 d log p(y_i, b; theta) / d b,   b = a_i,

    all differentiable in theta. For a linear Gaussian model this is the posterior at every
    theta, so the marginal likelihood has an exact gradient whatever the nodes.
    """
    fixed = model.fixed(ready, block) if fixed is None else fixed
    gradient, P = model.slope_and_precision(ready, anchor.mode, block, fixed)
    root, log_det = factor_root(P)
    step = torch.einsum("...ab,...cb,...c->...a", root, root, gradient)
    return anchor.mode + step, root, log_det


def mean_shift(model: Model, ready: Theta, anchor: Anchor, block: Block) -> Tensor:
    """E(b | y) - mode to first order, (n_c, k), with f = log p(y, b) and the columns r_m of R,

        1/2 P^-1 sum_m d/db d^2/ds^2 f(b + s r_m) = 1/2 P^-1 sum_m d^2/ds^2 f'(b + s r_m),

    second differences of the slope f'. Tierney, Kass and Kadane (1989), JASA 84, 710-716.
    """
    fixed, mode = model.fixed(ready, block), anchor.mode
    moves = SKEW_STEP * torch.movedim(anchor.root, -1, 0)  # (k, n_c, k)
    with torch.no_grad():
        places = torch.cat([mode[None], mode + moves, mode - moves])
        slopes = torch.stack([model.slope_and_precision(ready, b, block, fixed)[0] for b in places])
        bent = (slopes[1:].sum(0) - 2 * len(moves) * slopes[0]) / SKEW_STEP**2
    shift: Tensor = 0.5 * (anchor.covariance @ bent[..., None])[..., 0]
    return shift


def weighted_moments(value: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (n, ...) of values (M, n, ...) at nodes of weight (M, n)."""
    first = torch.einsum("mn,mn...->n...", weight, value)
    return first, torch.einsum("mn,mn...->n...", weight, (value - first).square())


def moments(values: Tensor, log_weight: Tensor) -> Moments:
    """Weighted mean and covariance over draws: values (M, n, d), log_weight (M, n)."""
    weight = torch.softmax(log_weight, dim=0)
    mean = torch.einsum("mn,mnd->nd", weight, values)
    centred = values - mean
    covariance = torch.einsum("mn,mna,mnb->nab", weight, centred, centred)
    return Moments(mean, covariance, 1 / weight.square().sum(0))
