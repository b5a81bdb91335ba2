"""Louis's identity: the observed information of a classical model at quadrature nodes.

    -d2 l / dx dx' = E(-d2 log p(y, b)) - var(d log p(y, b)),

expectations over b | y, as exact as the rule. Louis (1982), J. R. Statist. Soc. B 44, 226-233.

Both terms grow with the information in the outcomes of a subject, and their difference need not:
of counts in the millions it would keep no digit. Since E{s(b) d log p(y, b) / db'} = -E(ds / db')
for every s, the score may be profiled first. With J(b) = -d2 log p(y, b) in (x, b), partitioned
into J_xx, J_xb, J_bb, and any A, here J_xb J_bb^-1 at the mode,

    -d2 l / dx dx' = E{(I, -A) J(b) (I, -A)'} - var{(I, -A) d log p(y, b)},

whose rows of eta move by v_i = d eta / d x_i - A_i d eta / d b, small where b follows x_i.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from dgmm.likelihood.adaptive_engine import AdaptiveEngine
from dgmm.likelihood.slabs import Slab
from dgmm.numerics.cholesky import solve

__all__ = ["louis_information"]


def louis_information(engine: AdaptiveEngine, x: np.ndarray) -> np.ndarray:
    """The observed information in the vector x, (P, P); needs many nodes."""
    point = engine.point(x)
    total = torch.zeros(engine.size, engine.size, dtype=torch.float64)
    for slab in engine.slabs:
        fixed = engine.fixed(slab, point)
        b = engine.find_modes(slab, fixed, point.Lambda)
        total += _of_slab(engine, slab, fixed, point.Lambda, b)
    return total.numpy()


class _Column(NamedTuple):
    """d eta_s / d parameter at a node b: ``part``, times b in some direction if that is not -1."""

    predictor: int
    part: Tensor  # (J, n), or (1, 1)
    direction: int


def _columns(engine: AdaptiveEngine, slab: Slab) -> list[_Column]:
    one = torch.ones(1, 1, dtype=torch.float64)
    X = slab.gather(engine.panel.rows.X) @ engine.model.basis
    columns = [_Column(0, part, -1) for part in X.unbind(-1)]
    T = [one if part is None else part for part in slab.T]
    for row, column in zip(engine.pattern.row, engine.pattern.column, strict=True):
        part = engine.model.unit * T[row]
        columns.append(_Column(int(engine.predictor[row]), part, int(column)))
    for s, design in enumerate(engine.designs, 1):
        parts = [one] if design is None else list(slab.gather(design).unbind(-1))
        columns += [_Column(s, part, -1) for part in parts]
    return columns


class _Centre(NamedTuple):
    """A slab at its modes: the score, A, and how predictors move along (I, -A)."""

    b: Tensor  # (k, n)
    first: list[Tensor]  # per predictor (J, n)
    pull: Tensor  # sum_j d log p / d eta_s part, (P, n)
    A: Tensor  # (P, k, n)
    moves: Tensor  # v at the mode, (S, P, J, n)


def _centre(
    engine: AdaptiveEngine,
    slab: Slab,
    fixed: list[Tensor],
    Lambda: np.ndarray,
    b: np.ndarray,
    columns: list[_Column],
) -> _Centre:
    k, n = b.shape
    P, S, mode = len(columns), len(fixed), torch.from_numpy(b)
    found = engine.derivatives(slab, engine.shifted(slab, fixed, Lambda @ b), 2)
    t = torch.zeros(S, k, *slab.shape, dtype=torch.float64)  # d eta_s / d b
    for T, loading, s in zip(slab.T, torch.from_numpy(Lambda), engine.predictor, strict=True):
        t[s] += loading[:, None, None] * (1.0 if T is None else T)
    moves = torch.zeros(S, P, *slab.shape, dtype=torch.float64)
    D, pull = torch.zeros(P, k, n, dtype=torch.float64), torch.empty(P, n, dtype=torch.float64)
    for i, (s, part, direction) in enumerate(columns):
        moves[s, i] = part if direction < 0 else part * mode[direction]
        pull[i] = (found.first[s] * part).sum(0)
        for u in engine.moving:
            D[i] -= (found.second[u, s] * moves[s, i] * t[u]).sum(1)
        if direction >= 0:
            D[i, direction] -= pull[i]
    L = engine.root(slab, found, Lambda)
    A = torch.from_numpy(solve(L, D.transpose(0, 1).numpy())).transpose(0, 1)
    for s in engine.moving:
        moves[s] -= torch.einsum("pkn,kjn->pjn", A, t[s])
    return _Centre(mode, list(found.first), pull, A, moves)


def _of_slab(
    engine: AdaptiveEngine, slab: Slab, fixed: list[Tensor], Lambda: np.ndarray, b: np.ndarray
) -> Tensor:
    columns = _columns(engine, slab)
    at = _centre(engine, slab, fixed, Lambda, b, columns)
    (P, k, n), S = at.A.shape, len(fixed)
    rows = dict(enumerate(engine.pattern.row, engine.sizes[0]))  # of the entries of Lambda
    terms = engine.log_terms(slab, fixed, Lambda, b)
    share = torch.from_numpy(np.exp(terms - logsumexp(terms, axis=0)))
    # E(W), E(W d) and E(W d d') of every pair of predictors, d = b less its mode
    W = torch.zeros(S, S, 1 + k, 1 + k, *slab.shape, dtype=torch.float64)
    pull, mean = torch.zeros_like(at.pull), torch.zeros(P, n, dtype=torch.float64)
    square, seen = torch.zeros(P, P, dtype=torch.float64), 0
    for _, nodes, found in engine.at_nodes(slab, fixed, Lambda, b, 2, list(range(S))):
        weight = share[seen : seen + nodes.shape[1]]
        seen += nodes.shape[1]
        away = torch.from_numpy(nodes) - at.b[:, None]
        change = [slab.masked(g) - c for g, c in zip(found.first, at.first, strict=True)]
        score = torch.zeros(P, *weight.shape, dtype=torch.float64)
        for direction, own in enumerate(away):
            score.addcmul_(at.A[:, direction, None], own)
        for g, v in zip(change, at.moves, strict=True):
            for i, own in enumerate(v):
                score[i] += (g * own).sum(-2)
        sums = engine.sums(slab, change)
        for i, (_, _, direction) in enumerate(columns):
            if direction >= 0:
                moved = engine.model.unit * torch.from_numpy(sums[rows[i]])
                pull[i] += (weight * moved).sum(0)
                score[i] += (moved + at.pull[i]) * away[direction]
        mean += (weight * score).sum(1)
        flat = (score * weight.sqrt()).flatten(1)
        square += flat @ flat.T
        power = torch.cat([torch.ones_like(away[:1]), away])
        for (s, u), second in found.second.items():
            own = slab.masked(second)
            for c in range(1 + k):
                for d in range(c + 1):
                    _subtract(W[s, u, c, d], own, weight * power[c] * power[d])
    for c in range(1 + k):
        for d in range(c):
            W[:, :, d, c] = W[:, :, c, d]
    pull += at.pull
    information = mean @ mean.T - square + torch.einsum("pkn,qkn->pq", at.A, at.A)
    moving = [(i, *column) for i, column in enumerate(columns) if column.direction >= 0]
    for i, s, part, direction in moving:
        bent = torch.einsum("n,qn->q", pull[i], at.A[:, direction])
        for u in range(S):
            bent += ((W[s, u, 0, 1 + direction] * part) * at.moves[u]).sum((1, 2))
        information[i] += bent
        information[:, i] += bent
        for j, u, other, mate in moving:
            information[i, j] += (W[s, u, 1 + direction, 1 + mate] * part * other).sum()
    for s in range(S):
        for u in range(S):
            weighted = (W[s, u, 0, 0] * at.moves[u]).flatten(1)
            information += at.moves[s].flatten(1) @ weighted.T
    return information


def _subtract(total: Tensor, values: Tensor, weight: Tensor) -> None:
    """Take the weighted sum over nodes of values (m, J, n) from a total (J, n)."""
    if len(weight) == 1:
        total.addcmul_(values[0], weight[0], value=-1)
    else:
        total -= (values * weight[:, None]).sum(0)
