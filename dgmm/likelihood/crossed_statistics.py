"""Sufficient statistics of a Gaussian mixed model with several grouping factors.

Gaussian outcome, identity link. With Lambda relative to sigma and u the effects of all levels,

    A = Lambda'Z'WZ Lambda + I,   B = Lambda'Z'W[X y],   U = A^-1 B,   S = [X y]'W[X y] - B'U.

The data enter through sums over cells (distinct combinations of levels), and A through its factors
by cells.py. Gradients are exact,

    d log det A / d Lambda = 2 sum_c G_c Lambda (A^-1)_c,   d rss / d Lambda = -2 sum_c r_c u_c',

with G_c = sum t w t' and r_c = sum t w (residual) over the rows of cell c. After Bates, Maechler,
Bolker and Walker (2015), J. Statistical Software 67(1), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from dgmm.latent import Pattern
from dgmm.likelihood.cells import Factorised, Layout, lay_out, sum_by
from dgmm.likelihood.statistics import scaled_rows
from dgmm.model import Model
from dgmm.panel import Panel

__all__ = ["CrossedStatistics", "crossed_statistics"]


@dataclass(frozen=True)
class CrossedStatistics:
    """Sums over cells, in units of the model."""

    G: np.ndarray  # (c, K, K)
    H: np.ndarray  # (c, K, p + 1), last column for y
    C: np.ndarray  # (p + 1, p + 1)
    origin: np.ndarray  # (p,)
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

    def reduce(self, Lambda: np.ndarray) -> CrossedPieces:
        """S, log det A and their gradient at Lambda relative to sigma."""
        plan, Lambda = self.layout.plan, self.layout.rearrange(Lambda)
        factor = plan.factorise(Lambda.T @ self.G @ Lambda)
        B = plan.scatter(Lambda.T @ self.H)
        U = factor.solve(B)
        S = self.C - B.T @ U
        return CrossedPieces(self, Lambda, factor, U, 0.5 * (S + S.T), factor.log_det)


def crossed_statistics(model: Model, panel: Panel) -> CrossedStatistics:
    """One pass over the observed rows of a panel with several grouping factors."""
    t, z, origin, constant = scaled_rows(model, panel)
    layout = lay_out(panel)
    t, c = t[layout.columns].T, len(layout.plan.level)
    return CrossedStatistics(
        sum_by(layout.cell, t[:, :, None] * t[:, None, :], c),
        sum_by(layout.cell, t[:, :, None] * z.T[:, None, :], c),
        z @ z.T,
        origin,
        z.shape[1],
        constant,
        model.unit,
        float(torch.linalg.slogdet(model.basis)[1]),
        Pattern.of(model.latents),
        layout,
    )


@dataclass(frozen=True)
class CrossedPieces:
    """The statistics at some Lambda."""

    stats: CrossedStatistics
    Lambda: np.ndarray  # (K, K) in the order of elimination
    factor: Factorised
    U: np.ndarray  # (q, p + 1)
    S: np.ndarray  # (p + 1, p + 1)
    log_det: float

    def slope(self, v: np.ndarray, precision: float, restricted: bool) -> np.ndarray:
        """The gradient in Lambda of log det A + precision v'S v (+ log det S_xx)."""
        stats, p = self.stats, self.stats.p
        GL = stats.G @ self.Lambda
        slope = 2 * np.einsum("cij,cjk->ik", GL, self.factor.cells())
        own = self.U[stats.layout.plan.positions]  # (c, K, p + 1)
        rest = stats.H - GL @ own
        slope -= 2 * precision * ((rest @ v).T @ (own @ v))
        if restricted:
            weighted = own[..., :p] @ np.linalg.inv(self.S[:p, :p])
            slope -= 2 * np.einsum("cip,ckp->ik", rest[..., :p], weighted)
        return stats.layout.restore(slope)

    def curvature(self, v: np.ndarray, precision: float, restricted: bool) -> None:
        """Not known in closed form."""

    @property
    def coefficient_slope(self) -> None:
        """Left to differences."""
        return None
