"""The Gaussian log-likelihood as a differentiable function of the variance parameters.

With A_i = T_i'W T_i, B_i = T_i'W [X_i y_i], C = [X y]'W[X y] and Lambda relative to sigma,

    M_i = I + Lambda'A_i Lambda,   S = C - sum_i B_i'Lambda M_i^-1 Lambda'B_i,
    -2 l = N log(2 pi sigma^2) + sum_i log det M_i + (1, -beta) S (1, -beta)' / sigma^2,

beta at its conditional maximum; the restricted likelihood has N - p and adds log det S_xx. Here
for autograd: profiles, Hessians of REML, Satterthwaite's degrees of freedom. Estimation itself has
its own hand-written gradients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dgmm.estimate import Estimate
from dgmm.likelihood import gaussian

__all__ = ["GaussianLikelihood", "Solved", "variance_vector"]


@dataclass(frozen=True)
class Solved:
    """What follows from the variance parameters alone, in units of the model."""

    beta: Tensor  # (p,) generalised least squares
    factor: Tensor  # (p, p) Cholesky factor of S_xx; sigma^2 S_xx^-1 is the covariance of beta
    rss: Tensor  # (1, -beta) S (1, -beta)'
    log_det: Tensor  # sum_i log det M_i


@dataclass(frozen=True)
class GaussianLikelihood:
    """Sufficient statistics of a Gaussian linear mixed model, subjects first."""

    A: Tensor  # (n, q, q)
    B: Tensor  # (n, q, p + 1)
    C: Tensor  # (p + 1, p + 1)
    N: int
    constant: float
    unit: float
    log_det_basis: float
    row: Tensor  # free entries of Lambda, in the order of theta
    column: Tensor
    reml: bool

    @classmethod
    def of(cls, done: Estimate, reml: bool) -> GaussianLikelihood:
        """Of a fit by likelihood="exact"."""
        stats = gaussian.statistics(done.model, done.observed)
        return cls(
            torch.from_numpy(stats.A).permute(2, 0, 1).contiguous(),
            torch.from_numpy(stats.B).permute(2, 0, 1).contiguous(),
            torch.from_numpy(stats.C),
            stats.N,
            stats.constant,
            stats.unit,
            stats.log_det_basis,
            torch.from_numpy(stats.pattern.row),
            torch.from_numpy(stats.pattern.column),
            reml,
        )

    @property
    def p(self) -> int:
        """Number of linear coefficients."""
        return len(self.C) - 1

    @property
    def df(self) -> int:
        """N, or N - p for the restricted likelihood."""
        return self.N - self.p if self.reml else self.N

    def fill(self, entries: Tensor) -> Tensor:
        """Lambda (q, q) from its free entries."""
        q = self.A.shape[1]
        return torch.zeros(q, q, dtype=torch.float64).index_put((self.row, self.column), entries)

    def solve(self, Lambda: Tensor) -> Solved:
        """Generalised least squares at Lambda (q, q), relative to sigma, in units of the model."""
        p = self.p
        M = Lambda.T @ self.A @ Lambda + torch.eye(Lambda.shape[1], dtype=torch.float64)
        L = torch.linalg.cholesky(M)
        K = torch.linalg.solve_triangular(L, Lambda.T @ self.B, upper=False)
        S = self.C - torch.einsum("nka,nkb->ab", K, K)
        factor = torch.linalg.cholesky(S[:p, :p])
        half = torch.linalg.solve_triangular(factor, S[:p, p:], upper=False)
        beta = torch.linalg.solve_triangular(factor.T, half, upper=True)[:, 0]
        rss = S[p, p] - half.square().sum()
        return Solved(beta, factor, rss, 2 * L.diagonal(dim1=1, dim2=2).log().sum())

    def value(self, Lambda: Tensor, log_sigma: Tensor, excess: Tensor | float = 0.0) -> Tensor:
        """l at Lambda relative to sigma and log sigma on the user's scale.

        excess: added to the residual sum of squares, for a constraint on beta.
        """
        found = self.solve(Lambda)
        inner = log_sigma - math.log(self.unit)
        total = self.df * (math.log(2 * math.pi) + 2 * inner) + self.constant + found.log_det
        total = total + (found.rss + excess) * torch.exp(-2 * inner)
        if self.reml:
            total = total + 2 * found.factor.diagonal().log().sum() - 2 * self.log_det_basis
        return -0.5 * total

    def constraint(self, found: Solved, direction: Tensor, value: float) -> Tensor:
        """What fixing direction'beta = value adds to the residual sum of squares."""
        half = torch.linalg.solve_triangular(found.factor, direction[:, None], upper=False)
        return (value - direction @ found.beta).square() / half.square().sum()


def variance_vector(done: Estimate, likelihood: GaussianLikelihood) -> Tensor:
    """Free entries of Lambda relative to sigma, then log sigma: the scale of lme4's theta."""
    parts = []
    for i, latent in enumerate(done.model.latents, 1):
        parts.append(done.theta[f"latent{i}.log_diagonal"].exp())
        if "below" in latent.shapes():
            parts.append(done.theta[f"latent{i}.below"])
    log_sigma = done.theta["extra"][:1]
    relative = torch.cat(parts) * torch.exp(math.log(likelihood.unit) - log_sigma)
    return torch.cat([relative, log_sigma]).detach()
