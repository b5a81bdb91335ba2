"""Sufficient statistics of several Gaussian outcomes with correlated random effects.

Per subject and outcome A_ik = T_ik'T_ik and B_ik = T_ik'[X_ik y_ik] as for one outcome, which stand
in blocks of A_i (Q, Q) and B_i (Q, R). With u_k = 1 / sigma_k, v = (-u_k beta_k, u_k)_k and Lambda
relative to the sigmas, row by row,

    M_i = I + Lambda'A_i Lambda,   S = C - sum_i B_i'Lambda M_i^-1 Lambda'B_i,
    -2 l = sum_k N_k (log 2 pi - 2 log u_k) + sum_i log det M_i + v'S v,

from which beta and u are profiled (:mod:`dgmm.likelihood.joint_profile`). With
W_i = Z_i'V_i^-1 Z_i, g_i = Z_i'V_i^-1 r_i and Phi = sum_i (W_i - g_i g_i'),

    d(-2 l) = 2 <Phi Lambda, dLambda>,

and the Hessian is a sum over subjects of products of W_i, g_i, W_i Lambda and Lambda'W_i Lambda.
Nothing is larger than Q x Q per subject, whatever the number of rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from dgmm.latent import Pattern, columns_of
from dgmm.likelihood.statistics import Statistics, statistics
from dgmm.model import Model, alone, alone_panel
from dgmm.panel import Panel

__all__ = [
    "JointPieces",
    "JointStatistics",
    "columns_of_outcomes",
    "joint_statistics",
    "no_sums",
    "stacked",
]

SUBJECTS = 2_000
"""Subjects whose matrices are multiplied at once."""


@dataclass(frozen=True)
class JointStatistics:
    """Sums over the rows of every subject, each outcome in its own units."""

    A: Tensor  # (n, Q, Q)
    B: Tensor  # (n, Q, R), R = sum_k (p_k + 1), of every outcome its X, then its y
    C: Tensor  # (R, R)
    each: tuple[Statistics, ...]  # of every outcome by itself
    outcome_of_row: Tensor  # (Q,) of every column of T
    outcome_of_column: Tensor  # (R,) of every column of [X_1 y_1 X_2 y_2 ...]
    pattern: Pattern
    log_det: float = 0.0  # of the correlations of residuals, over all rows

    @cached_property
    def of_y(self) -> Tensor:
        """(R,) bool: the columns of outcomes."""
        marks = [torch.arange(one.p + 1) == one.p for one in self.each]
        return torch.cat(marks)

    @cached_property
    def unit(self) -> Tensor:
        """The units, (K,)."""
        return torch.tensor([one.unit for one in self.each], dtype=torch.float64)

    def df(self, restricted: bool) -> Tensor:
        """Rows, less coefficients for the restricted likelihood, (K,)."""
        return torch.tensor([float(one.N - one.p * restricted) for one in self.each]).double()

    def constant(self, restricted: bool) -> float:
        """What neither Lambda nor v moves."""
        total = float(self.df(restricted).sum()) * math.log(2 * math.pi)
        total += self.log_det + sum(one.constant for one in self.each)
        return total - 2 * restricted * sum(one.log_det_basis for one in self.each)

    def reduce(self, Lambda: Tensor) -> JointPieces:
        """Everything that Lambda alone decides."""
        return JointPieces(self, Lambda)


@dataclass(frozen=True, eq=False)
class JointPieces:
    """The statistics at some Lambda (Q, k), relative to the sigmas."""

    stats: JointStatistics
    Lambda: Tensor

    @cached_property
    def AL(self) -> Tensor:
        """A_i Lambda, (n, Q, Q)."""
        return self.stats.A @ self.Lambda

    @cached_property
    def L(self) -> Tensor:
        """chol(M_i), (n, Q, Q)."""
        M = self.Lambda.T @ self.AL
        return torch.linalg.cholesky(M + torch.eye(self.Lambda.shape[1], dtype=M.dtype))

    @cached_property
    def K(self) -> Tensor:
        """chol(M_i)^-1 Lambda'B_i, (n, Q, R)."""
        right = self.Lambda.T @ self.stats.B
        return torch.linalg.solve_triangular(self.L, right, upper=False)

    @cached_property
    def S(self) -> Tensor:
        """(R, R)."""
        flat = self.K.reshape(-1, self.K.shape[-1])
        return self.stats.C - flat.T @ flat

    @cached_property
    def log_det(self) -> float:
        """sum_i log det M_i."""
        return 2 * float(self.L.diagonal(dim1=-2, dim2=-1).log().sum())

    @cached_property
    def inverse(self) -> Tensor:
        """M_i^-1, (n, Q, Q)."""
        return torch.cholesky_inverse(self.L)

    @cached_property
    def P(self) -> Tensor:
        """W_i Lambda = A_i Lambda M_i^-1, (n, Q, Q)."""
        return self.AL @ self.inverse

    def inner(self) -> Tensor:
        """G_i = Z_i'V_i^-1 [X_i y_i], (n, Q, R)."""
        back = torch.linalg.solve_triangular(self.L.mT, self.K, upper=True)
        return self.stats.B - self.AL @ back

    def g(self, v: Tensor) -> Tensor:
        """Z_i'V_i^-1 r_i, (n, Q)."""
        right = (self.K @ v)[..., None]
        back = torch.linalg.solve_triangular(self.L.mT, right, upper=True)
        return self.stats.B @ v - (self.AL @ back)[..., 0]

    def slope(self, v: Tensor, restricted: bool) -> Tensor:
        """The gradient of log det M + v'S v (+ log det S_xx) in Lambda, (Q, Q)."""
        g = self.g(v)
        found = self.P.sum(0) - g.T @ (g @ self.Lambda)
        if restricted:
            x = ~self.stats.of_y
            G = self.inner()[..., x]
            right = torch.linalg.inv(self.S[x][:, x])
            found = found - torch.einsum("nqx,xy,nsy,st->qt", G, right, G, self.Lambda)
        return 2 * found

    def hessian(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Second derivatives of log det M + v'S v: in vec Lambda (E, E), and beside v (E, R),

        for the E free entries of Lambda.
        """
        Lambda, pattern = self.Lambda, self.stats.pattern
        row, column = torch.from_numpy(pattern.row), torch.from_numpy(pattern.column)
        Q, n = len(Lambda), len(self.L)
        g, inner = self.g(v), self.inner()
        h, E = g @ Lambda, len(row)
        total = torch.zeros(E, E, dtype=torch.float64)
        Phi = torch.zeros(Q, Q, dtype=torch.float64)
        beside = torch.zeros(E, inner.shape[-1], dtype=torch.float64)
        for at in torch.arange(n).split(SUBJECTS):
            P, gi, hi, G = self.P[at], g[at], h[at], inner[at]
            W = self.stats.A[at] - P @ self.AL[at].mT
            R2 = Lambda.T @ P
            gg, hh, gh = gi[:, :, None] * gi[:, None], hi[:, :, None] * hi[:, None], None
            gh = gi[:, :, None] * hi[:, None]
            Phi += (W - gg).sum(0)
            # [a, c] x [b, d]
            same = _products(gg - W, R2) + _products(W, hh)
            # [a, d] x [c, b]
            turned = _products(gh - P, P) + _products(P, gh)
            total += 2 * same[row[:, None], row, column[:, None], column]
            total += 2 * turned[row[:, None], column, row, column[:, None]]
            LG = Lambda.T @ G
            one = torch.einsum("nar,nb->abr", G, hi) + torch.einsum("na,nbr->abr", gi, LG)
            beside -= 2 * one[row, column]
        total += 2 * Phi[row[:, None], row] * (column[:, None] == column)
        return total, beside


def _products(one: Tensor, other: Tensor) -> Tensor:
    """sum_i one_i[a, c] other_i[b, d], (Q, Q, Q, Q)."""
    shape = (*one.shape[1:], *other.shape[1:])
    return (one.flatten(1).T @ other.flatten(1)).reshape(shape)


def joint_statistics(model: Model, panel: Panel) -> JointStatistics:
    """One pass over the observed rows of every outcome."""
    outcomes = range(len(model.outcomes))
    each = [statistics(alone(model, o), alone_panel(model, panel, o)) for o in outcomes]
    return stacked(each, columns_of_outcomes(model), panel, model)


def stacked(
    each: Sequence[Statistics], rows: Sequence[Tensor], panel: Panel, model: Model
) -> JointStatistics:
    """Those of every outcome in one; rows: its columns of T among all Q."""
    row_outcome = torch.cat([torch.full_like(at, o) for o, at in enumerate(rows)])
    row_outcome = row_outcome[torch.cat(list(rows)).argsort()]
    Q, sizes = len(row_outcome), [one.p + 1 for one in each]
    R, start = sum(sizes), np.cumsum([0, *sizes])
    A = torch.zeros(panel.n, Q, Q, dtype=torch.float64)
    B = torch.zeros(panel.n, Q, R, dtype=torch.float64)
    C = torch.zeros(R, R, dtype=torch.float64)
    for o, (own, one, at) in enumerate(zip(panel.panels, each, rows, strict=True)):
        seen = torch.nonzero(own.count > 0)[:, 0]
        columns = torch.arange(int(start[o]), int(start[o + 1]))
        A[seen[:, None, None], at[:, None], at] = torch.from_numpy(one.A).permute(2, 0, 1)
        B[seen[:, None, None], at[:, None], columns] = torch.from_numpy(one.B).permute(2, 0, 1)
        C[columns[:, None], columns] = torch.from_numpy(one.C)
    outcome = torch.repeat_interleave(torch.arange(len(each)), torch.tensor(sizes))
    return JointStatistics(A, B, C, tuple(each), row_outcome, outcome, Pattern.of(model.latents))


def no_sums(model: Model) -> str | None:
    """Why the log-likelihood of some outcome is not one of these sums; None when all are."""
    for one in model.outcomes:
        if not one.family.conjugate or one.parts or one.networks:
            return (
                "it is for Gaussian outcomes with identity link and one residual variance "
                f"each, and `{one.name}` is of family {one.family.name!r}"
            )
    return None


def columns_of_outcomes(model: Model) -> list[Tensor]:
    """Of every outcome its columns of T among those of all latent structures, (q_k,)."""
    first, found = np.cumsum([0, *(latent.dim for latent in model.latents)]), []
    for o, outcome in enumerate(model.outcomes):
        at = [
            np.arange(first[i], first[i + 1])[columns_of(latent.places, outcome.name)]
            for i, latent in enumerate(model.latents)
            if any(entry.outcome == o for entry in model.entries[i])
        ]
        found.append(torch.from_numpy(np.concatenate([np.zeros(0, dtype=int), *at])))
    return found
