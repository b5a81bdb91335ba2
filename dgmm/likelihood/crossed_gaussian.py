"""log p(y; theta) in closed form with several grouping factors, nested or crossed.

Gaussian outcome, identity link. With Lambda relative to sigma and u the effects of all levels,

    A = Lambda'Z'WZ Lambda + I,   B = Lambda'Z'W[X y],   U = A^-1 B,   S = [X y]'W[X y] - B'U,
    -2 l = N log(2 pi sigma^2) - sum log w + log det A + (1, -beta) S (1, -beta)' / sigma^2,

beta and sigma profiled from S as in exact.py. The data enter through sums over cells (distinct
combinations of levels), and A through its factors by cells.py. Gradients are exact,

    d log det A / d Lambda = 2 sum_c G_c Lambda (A^-1)_c,   d rss / d Lambda = -2 sum_c r_c u_c',

with G_c = sum t w t' and r_c = sum t w (residual) over the rows of cell c. After Bates, Maechler,
Bolker and Walker (2015), J. Statistical Software 67(1), section 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from dgmm.latent import Pattern
from dgmm.likelihood.cells import Factorised, Layout, lay_out, sum_by
from dgmm.likelihood.gaussian import Deviance, scaled_rows
from dgmm.model import Model
from dgmm.panel import Panel

__all__ = ["CrossedStatistics", "crossed_statistics"]


@dataclass(frozen=True)
class CrossedStatistics:
    """Sums over cells, in the units of exact.Statistics."""

    G: np.ndarray  # (c, K, K)
    H: np.ndarray  # (c, K, p + 1), last column for y
    C: np.ndarray  # (p + 1, p + 1)
    N: int
    constant: float
    unit: float
    log_det_basis: float
    pattern: Pattern
    layout: Layout

    @property
    def p(self) -> int:
        """Number of linear coefficients."""
        return self.C.shape[0] - 1

    def reduce(self, Lambda: np.ndarray) -> tuple[np.ndarray, float]:
        """S (p + 1, p + 1) and log det A at Lambda relative to sigma."""
        pieces = _pieces(self, Lambda)
        return pieces.S, pieces.factor.log_det

    def deviance(self, entries: np.ndarray, reml: bool) -> Deviance:
        """The profiled deviance at the free entries of Lambda relative to sigma."""
        return _deviance(self, entries, reml)


def crossed_statistics(model: Model, panel: Panel) -> CrossedStatistics:
    """One pass over the observed rows of a panel with several grouping factors."""
    t, z, constant = scaled_rows(model, panel)
    layout = lay_out(panel)
    t, c = t[layout.columns].T, len(layout.plan.level)
    return CrossedStatistics(
        sum_by(layout.cell, t[:, :, None] * t[:, None, :], c),
        sum_by(layout.cell, t[:, :, None] * z.T[:, None, :], c),
        z @ z.T,
        z.shape[1],
        constant,
        model.unit,
        float(torch.linalg.slogdet(model.basis)[1]),
        Pattern.of(model.latents),
        layout,
    )


@dataclass(frozen=True)
class _Pieces:
    Lambda: np.ndarray  # (K, K) in the order of elimination
    factor: Factorised
    U: np.ndarray  # (q, p + 1)
    S: np.ndarray  # (p + 1, p + 1)


def _pieces(stats: CrossedStatistics, Lambda: np.ndarray) -> _Pieces:
    plan, Lambda = stats.layout.plan, stats.layout.rearrange(Lambda)
    factor = plan.factorise(Lambda.T @ stats.G @ Lambda)
    B = plan.scatter(Lambda.T @ stats.H)
    U = factor.solve(B)
    S = stats.C - B.T @ U
    return _Pieces(Lambda, factor, U, 0.5 * (S + S.T))


def _deviance(stats: CrossedStatistics, entries: np.ndarray, reml: bool) -> Deviance:
    pieces = _pieces(stats, stats.pattern.fill(entries))
    Lambda, factor, U, S = pieces.Lambda, pieces.factor, pieces.U, pieces.S
    p = stats.p
    Sxx, Sxy = S[:p, :p], S[:p, p]
    beta = np.linalg.solve(Sxx, Sxy)
    rss = float(S[p, p] - Sxy @ beta)
    df = stats.N - p if reml else stats.N
    value = df * (1 + math.log(2 * math.pi * rss / df)) + factor.log_det + stats.constant
    GL = stats.G @ Lambda
    slope = 2 * np.einsum("cij,cjk->ik", GL, factor.cells())
    own = U[stats.layout.plan.positions]  # (c, K, p + 1)
    rest = stats.H - GL @ own
    v = np.append(-beta, 1.0)
    slope -= 2 * (df / rss) * ((rest @ v).T @ (own @ v))
    if reml:
        half = np.linalg.cholesky(Sxx)
        value += 2 * float(np.log(np.diag(half)).sum()) - 2 * stats.log_det_basis
        weighted = own[..., :p] @ np.linalg.inv(Sxx)
        slope -= 2 * np.einsum("cip,ckp->ik", rest[..., :p], weighted)
    slope = stats.layout.restore(slope)
    return Deviance(value, slope[stats.pattern.row, stats.pattern.column], S, beta, rss)
