"""What every subject adds to the Gaussian log-likelihood with paths, and to its gradient.

Of the likelihood, not the restricted one, which is no sum over subjects.
"""

from __future__ import annotations

import math

import numpy as np

from dgmm.likelihood.innovations import Innovations
from dgmm.likelihood.statistics import Pieces
from dgmm.numerics.cholesky import backward, forward, log_det

__all__ = ["classical_scores", "per_series"]


class _Sums:
    """Residuals e = v'[X y] of every series beside X, T and themselves, F taken out."""

    def __init__(self, found: Innovations, pieces: Pieces, v: np.ndarray) -> None:
        first, known = found.f + found.q, np.zeros((0, found.packed.series), dtype=bool)
        z = found.found.whitened[first:]
        e = (v @ z)[None]
        self.X = found.packed.sums(e, z[:-1])[0]  # (p, n)
        self.square = found.packed.sums(e, e)[0, 0]
        self.log_flat = np.zeros(found.packed.series)
        if found.f:
            L, K, known = found.flat
            own = np.einsum("fpn,p->fn", K[:, first:], v)
            self.X = self.X - np.einsum("fpn,fn->pn", K[:, first:-1], own)
            self.square = self.square - (own**2).sum(0)
            self.log_flat = 2 * np.where(known, np.log(np.einsum("jjn->jn", L)), 0.0).sum(0)
        self.flat = known.sum(0)
        self.count = found.packed.count - self.flat
        self.c = np.einsum("qpn,p->qn", pieces.stats.B, v)
        inner = forward(pieces.L, (pieces.Lambda.T @ self.c)[:, None])
        self.u = backward(pieces.L, inner)[:, 0]  # M^-1 Lambda'c
        self.rss = self.square - (inner[:, 0] ** 2).sum(0)


def per_series(found: Innovations, pieces: Pieces, v: np.ndarray, precision: float) -> np.ndarray:
    """l_i of every series, (n,)."""
    packed, sums = found.packed, _Sums(found, pieces, v)
    log_F = np.bincount(packed.steps.series, found.found.log_F, packed.series)
    per_outcome = math.log(2 * math.pi) + 2 * math.log(packed.model.unit)
    total = packed.count * per_outcome - sums.count * math.log(precision) + log_F + sums.log_flat
    each: np.ndarray = -0.5 * (total + log_det(pieces.L) + precision * sums.rss)
    return each


def classical_scores(
    found: Innovations, pieces: Pieces, v: np.ndarray, precision: float
) -> np.ndarray:
    """The gradient of every l_i in (beta, free entries of Lambda, log sigma), (n, P).

    The paths relative to sigma are held; the diagonal of Lambda enters by its logarithm.
    """
    sums, stats = _Sums(found, pieces, v), pieces.stats
    Lambda, pattern = pieces.Lambda, stats.pattern
    AL = np.einsum("abn,bk->akn", stats.A, Lambda)
    identity = np.broadcast_to(np.eye(found.q)[..., None], AL.shape)
    inverse = backward(pieces.L, forward(pieces.L, identity))
    residual = sums.c - (AL * sums.u).sum(1)
    to_Lambda = precision * residual[:, None] * sums.u - np.einsum("akn,kbn->abn", AL, inverse)
    entries = to_Lambda[pattern.row, pattern.column]  # (E, n)
    own = Lambda[pattern.row, pattern.column]
    through = np.where(pattern.on_diagonal, own, math.sqrt(precision))
    beta = precision * (sums.X - np.einsum("qpn,qn->pn", stats.B[:, :-1], Lambda @ sums.u))
    log_sigma = precision * sums.rss - sums.count - own @ entries
    scores: np.ndarray = np.vstack([beta, entries * through[:, None], log_sigma]).T
    return scores
