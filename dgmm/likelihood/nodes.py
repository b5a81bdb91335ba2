"""One marginal log-likelihood for every node rule.

    l_i(theta) = log sum_m exp{ lw_m + log p(y_i | b_im; theta) + log p(b_im) } |R_i|,
    b_im = m_i(theta) + R_i(theta) e_m,

m_i one Newton step from a fixed anchor and R_i the root of the inverse information there: a smooth
function of theta with an exact gradient, accurate because the nodes follow the posterior.

Where a posterior is not normal, m_i and R_i are moved and reshaped by constants, or held
(:mod:`dgmm.posterior.proposal`).
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgmm.likelihood.rules import NodeRule
from dgmm.model import Model
from dgmm.numerics.quadrature import Nodes, sigma_points
from dgmm.panel import Block, Panel
from dgmm.parameters import Packing, Theta
from dgmm.posterior.modes import ITERATIONS, factor_root, find_modes, tracked
from dgmm.posterior.proposal import Places, find_places

__all__ = ["Frozen", "derived_jacobian", "freeze", "mean_scores", "places"]

CELLS = 3_000_000
"""Largest number of (draw, subject, measurement) entries held at once."""


CACHED = 300_000
"""Entries worked through at once: what a processor holds near it goes faster."""


class Piece(NamedTuple):
    """Subjects whose nodes are all around modes, which they follow, or all held."""

    block: Block
    around: Places
    nodes: Nodes

    @property
    def held(self) -> bool:
        """The nodes do not follow theta."""
        return not bool(self.around.follows.any())


@dataclass(frozen=True)
class Frozen:
    """The marginal log-likelihood at fixed nodes and anchors: a smooth function of theta."""

    model: Model
    rule: NodeRule
    pieces: tuple[Piece, ...]
    n: int

    @property
    def single(self) -> bool:
        """One node per subject: Laplace's approximation."""
        return all(len(piece.nodes.e) == 1 for piece in self.pieces)

    def moved(self, theta: Theta) -> Frozen:
        """The same nodes anchored at the modes under another theta."""
        pieces = [
            piece._replace(around=piece.around.followed(self.model, theta, piece.block))
            for piece in self.pieces
        ]
        return replace(self, pieces=tuple(pieces))

    def _terms(self, ready: Theta, piece: Piece, few: int | None = None) -> tuple[Tensor, Tensor]:
        """Nodes b (M, n, k) and their terms (M, n), ``few`` of the nodes at a time."""
        model, block, (e, log_weight) = self.model, piece.block, piece.nodes
        fixed, anchor = model.fixed(ready, block), piece.around.anchor
        if piece.held:
            mean, root, log_det = anchor.mode, anchor.root, anchor.log_det_root
        else:
            near = tracked(model, ready, anchor, block, fixed)
            mean, root, log_det = piece.around.around(*near)
        if len(e) == 1:  # Laplace's approximation: the determinant moves with the mode
            root, log_det = factor_root(model.precision(ready, mean, block, fixed))

        def some(e: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:
            b = mean + torch.einsum("nab,mnb->mna", root, e)
            terms = model.log_joint(ready, b, block, fixed) + log_weight + log_det
            if bool(terms.isfinite().all()):
                return b, terms
            # so far out that the density overflows: no weight, and 0 x inf in no derivative
            out = ~(terms > -torch.inf)
            b = torch.where(out[..., None], mean, b)
            terms = model.log_joint(ready, b, block, fixed) + log_weight + log_det
            return b, terms.masked_fill(out, -torch.inf)

        if few is None or few >= len(e):
            return some(e, log_weight)
        parts = [some(*part) for part in zip(e.split(few), log_weight.split(few), strict=True)]
        b, terms = zip(*parts, strict=True)
        return torch.cat(b), torch.cat(terms)

    def log_terms(self, ready: Theta) -> Iterator[tuple[Block, Tensor, Tensor]]:
        """Per block: nodes b (M, n, k) and log weight + log p(y, b) + log |R| (M, n)."""
        for piece in self.pieces:
            yield piece.block, *self._terms(ready, piece)

    def weighted_nodes(self, ready: Theta) -> Iterator[tuple[Block, Tensor, Tensor]]:
        """:meth:`log_terms` without a graph: posterior draws and their log weights."""
        for piece in self.pieces:
            with torch.no_grad():
                terms = self._terms(ready, piece, max(1, CACHED // piece.block.mask.numel()))
            yield piece.block, *terms

    def per_subject(self, theta: Theta) -> Tensor:
        """l_i(theta), (n,); no gradient."""
        out = torch.zeros(self.n, dtype=torch.float64)
        with torch.no_grad():
            ready = self.model.prepare(theta)
        for block, _, terms in self.weighted_nodes(ready):
            out[block.subjects] = torch.logsumexp(terms, 0)
        return out

    def value(self, theta: Theta) -> float:
        """l(theta)."""
        return float(self.per_subject(theta).sum())

    def value_and_gradient(
        self, theta: Theta, free: Collection[str] | None = None
    ) -> tuple[float, Theta]:
        """l(theta) and its gradient in the ``free`` parameters, one block in memory at a time."""
        fixed = {name: value.detach() for name, value in theta.items()}
        leaves = {
            name: value.clone().requires_grad_()
            for name, value in fixed.items()
            if free is None or name in free
        }
        ready = self.model.prepare({**fixed, **leaves})
        held = {n: value.detach().requires_grad_(value.requires_grad) for n, value in ready.items()}
        names, total = [n for n, value in held.items() if value.requires_grad], 0.0
        slopes = {name: torch.zeros_like(held[name]) for name in names}
        for _, _, terms in self.log_terms(held):
            value = torch.logsumexp(terms, 0).double().sum()
            parts = torch.autograd.grad(value, [held[n] for n in names], allow_unused=True)
            for name, part in zip(names, parts, strict=True):
                if part is not None:
                    slopes[name] += part
            total += float(value.detach())
        gradient = torch.autograd.grad(
            [ready[n] for n in names],
            list(leaves.values()),
            [slopes[n] for n in names],
            allow_unused=True,
        )
        return total, {
            name: torch.zeros_like(leaves[name]) if g is None else g
            for name, g in zip(leaves, gradient, strict=True)
        }

    def objective(self, theta: Theta) -> Tensor:
        """l(theta) as one differentiable scalar (for autograd Hessians)."""
        ready = self.model.prepare(theta)
        parts = [torch.logsumexp(terms, 0).sum() for _, _, terms in self.log_terms(ready)]
        return torch.stack(parts).sum()

    def scores(self, theta: Theta, packing: Packing | None = None) -> Tensor:
        """Per-subject gradient of l_i, (n, P) in the order of the packing, by default all of theta.

        By Fisher's identity, the posterior mean over nodes of d log p(y_i | b; theta) / d theta.
        """
        held = {name: value.detach() for name, value in theta.items()}
        with torch.no_grad():
            ready = self.model.prepare(held)
        # a single node is a mode; the mean over the normal approximation there is what is wanted
        draws = self._normal_nodes(ready) if self.single else self.weighted_nodes(ready)
        return mean_scores(self.model, held, draws, self.n, packing)

    def _normal_nodes(self, ready: Theta) -> Iterator[tuple[Block, Tensor, Tensor]]:
        """Points of equal weight with the moments of the normal approximation at the modes."""
        e = sigma_points(self.model.k)
        for block, around, *_ in self.pieces:
            with torch.no_grad():
                mean, root, _ = tracked(self.model, ready, around.anchor, block)
                b = mean + torch.einsum("nab,mb->mna", root, e)
            yield block, b, torch.zeros(b.shape[:2], dtype=b.dtype)


def freeze(
    model: Model,
    theta: Theta,
    panel: Panel,
    rule: NodeRule,
    rng: np.random.Generator,
    start: Tensor | Places | None = None,
    keys: Sequence[int] | None = None,
    iterations: int = ITERATIONS,
) -> Frozen:
    """Anchor the nodes of a rule at b | y.

    start: what :func:`places` gave at a theta nearby, or b (n, k) near modes, around which the
    nodes then are. Without it modes are looked for from all places that may have one.
    iterations: Newton steps at most from a start; nodes are right around any place near the modes.
    """
    model = model.sized(panel)
    nodes = rule.nodes(model.k, panel.n, rng, keys)
    pieces = []
    for block in panel.blocks(CELLS // rule.count(model.k)):
        found = _around(model, theta, block, start, iterations)
        few = max(1, CACHED // (rule.count(model.k) * block.mask.shape[1]))
        for kind in found.follows.unique():
            for who in torch.nonzero(found.follows == kind)[:, 0].split(few):
                part = torch.zeros(len(found.follows), dtype=torch.bool)
                part[who] = True
                own = block.some(part)
                pieces.append(Piece(own, found.at(who), nodes.rows(own.subjects)))
    return Frozen(model, rule, tuple(pieces), panel.n)


def _around(
    model: Model,
    theta: Theta,
    block: Block,
    start: Tensor | Places | None,
    iterations: int,
) -> Places:
    """The places that nodes are around."""
    if isinstance(start, Tensor):
        return Places.of(find_modes(model, theta, block, start[block.subjects], iterations))
    near = None if start is None else start.at(block.subjects)
    return find_places(model, theta, block, near, iterations)


def places(frozen: Frozen) -> Places:
    """Where the nodes of all subjects are: a start for :func:`freeze`."""
    return Places.of_all([(piece.block.subjects, piece.around) for piece in frozen.pieces])


# -- scores --------------------------------------------------------------------------------------


def mean_scores(
    model: Model,
    theta: Theta,
    draws: Iterable[tuple[Block, Tensor, Tensor]],
    n: int,
    packing: Packing | None = None,
) -> Tensor:
    """Per subject the weighted mean over draws of d log p(y_i | b; theta) / d theta, (n, P).

    draws: per block of subjects b (M, n, k) and their log weights (M, n).
    packing: of the parameters wanted, by default all.
    """
    packing = model.packing if packing is None else packing
    with torch.no_grad():
        ready = model.prepare(theta)
    derived = [name for name in ready if name not in theta]
    scores = torch.zeros(n, packing.size, dtype=torch.float64)
    through = derived_jacobian(model, theta, derived, packing)
    wanted = [*packing.shapes, *derived]
    for block, b, terms in draws:
        parts = _lane_gradients(model, ready, wanted, block, b, torch.softmax(terms, 0))
        total = torch.cat([parts[n].reshape(len(b[0]), -1) for n in packing.shapes], dim=1)
        for name in derived:
            total = total + parts[name].reshape(len(b[0]), -1) @ through[name]
        scores[block.subjects] = total
    return scores


def derived_jacobian(
    model: Model, theta: Theta, derived: list[str], packing: Packing
) -> dict[str, Tensor]:
    """d derived / d theta as (size of derived, P) matrices, P that of the packing."""
    if not derived:
        return {}

    leaves = {name: theta[name].detach().clone().requires_grad_() for name in packing.shapes}
    with torch.enable_grad():
        ready = model.prepare({**theta, **leaves})
        outputs = {name: ready[name].reshape(-1) for name in derived}

    def slope(output: Tensor) -> Tensor:
        if not output.requires_grad:
            return torch.zeros(packing.size, dtype=torch.float64)
        found = torch.autograd.grad(
            output, list(leaves.values()), retain_graph=True, allow_unused=True
        )
        pairs = zip(leaves.items(), found, strict=True)
        return packing.pack(
            {name: torch.zeros_like(leaf) if g is None else g for (name, leaf), g in pairs}
        )

    return {
        name: torch.stack([slope(output) for output in values]).reshape(-1, packing.size)
        for name, values in outputs.items()
    }


def _lane_gradients(
    model: Model, ready: Theta, wanted: list[str], block: Block, b: Tensor, weight: Tensor
) -> dict[str, Tensor]:
    """Per subject: d / d ready of sum_m weight_m log p(y_i | b_m), every entry with a leading n."""

    def lane(free: Theta, draws: Tensor, w: Tensor, *columns: Tensor) -> Tensor:
        one = block.like(tuple(c[None] for c in columns))
        return (w * model.log_likelihood({**ready, **free}, draws[:, None], one)[:, 0]).sum()

    columns = block.columns()
    in_dims = (None, 1, 1, *([0] * len(columns)))
    cells = b.shape[0] * block.mask.shape[1] * 64
    chunk = max(1, CELLS * 4 // cells)
    gradient = torch.func.vmap(torch.func.grad(lane), in_dims=in_dims, chunk_size=chunk)
    with warnings.catch_warnings():  # torch tells of slow paths (probit), nothing is wrong
        warnings.filterwarnings("ignore", message=".*performance drop.*")
        result: dict[str, Tensor] = gradient(
            {name: ready[name] for name in wanted}, b, weight, *columns
        )
    return result
