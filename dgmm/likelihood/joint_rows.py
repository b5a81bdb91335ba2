"""Sums over rows on which several Gaussian outcomes with correlated residuals were seen.

Given R, every pair of outcomes (k, l) on a row that has the set s of them counts with the entry of
(R_ss)^-1. So one pass over the rows, set by set, gives

    A_i = sum_s w_s * A_is,   B_i = sum_s w_s * B_is,   C = sum_s w_s * C_s,   w_s = [(R_ss)^-1]_kl,

(* entry by entry), after which nothing depends on the number of rows, and the derivative of -2 l in
the parameters of R is that of sum_s {N_s log |R_ss| + <(R_ss)^-1, E_s>} at

    E_s = sum E(e e' | y) over the rows of s, in units of sigma.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgmm.likelihood.joint_statistics import JointPieces, JointStatistics, columns_of_outcomes
from dgmm.likelihood.statistics import Scaled, scaled_rows
from dgmm.model import Model, alone, alone_panel
from dgmm.outcomes import Residual
from dgmm.panel import Panel, common_rows

__all__ = ["Together", "together"]

ROWS = 20_000
"""Rows whose products are held at once."""


class _Set(NamedTuple):
    """The rows that have one set of the outcomes."""

    seen: Tensor  # (K,) bool
    N: int  # rows
    A: Tensor  # (n, Q, Q)
    B: Tensor  # (n, Q, R)
    C: Tensor  # (R, R)


@dataclass(frozen=True)
class Together:
    """The sums of every set, beside those of outcomes whose residuals are independent."""

    residual: Residual
    at: Tensor  # (K,) the outcomes among all of the model
    base: JointStatistics  # of the other outcomes
    sets: tuple[_Set, ...]

    @property
    def _seen(self) -> Tensor:
        return torch.stack([one.seen for one in self.sets])

    def under(self, raw: Tensor) -> JointStatistics:
        """The sums at some parameters of R."""
        inverse, log_det = self.residual.inverses(raw.detach(), self._seen)
        base = self.base
        A, B, C = base.A.clone(), base.B.clone(), base.C.clone()
        for one, block in zip(self.sets, self._spread(inverse), strict=True):
            q, r = base.outcome_of_row, base.outcome_of_column
            A += block[q[:, None], q] * one.A
            B += block[q[:, None], r] * one.B
            C += block[r[:, None], r] * one.C
        total = sum(one.N * float(log) for one, log in zip(self.sets, log_det, strict=True))
        return replace(base, A=A, B=B, C=C, log_det=total)

    def _spread(self, inverse: Tensor) -> Tensor:
        """Inverses (S, K, K) among all outcomes of the model."""
        all_ = len(self.base.each)
        found = torch.zeros(len(inverse), all_, all_, dtype=inverse.dtype)
        found[:, self.at[:, None], self.at] = inverse
        return found

    def slope(self, raw: Tensor, found: JointPieces, v: Tensor, restricted: bool) -> Tensor:
        """The gradient of -2 l in the parameters of R, at ``found`` under them and v (R,)."""
        stats = found.stats
        N = v[:, None] * v
        if restricted:
            x = torch.nonzero(~stats.of_y)[:, 0]
            N[x[:, None], x] += torch.linalg.inv(found.S[x][:, x])
        back = found.Lambda @ torch.linalg.solve_triangular(found.L.mT, found.K, upper=True)
        FN = back @ N  # (n, Q, R)
        G = found.Lambda @ found.inverse @ found.Lambda.T + FN @ back.mT
        # sums of columns into outcomes
        one_q = torch.nn.functional.one_hot(stats.outcome_of_row, len(stats.each)).double()
        one_r = torch.nn.functional.one_hot(stats.outcome_of_column, len(stats.each)).double()
        moments = []
        for one in self.sets:
            E = one_q.T @ (G * one.A).sum(0) @ one_q
            E -= 2 * one_q.T @ (FN * one.B).sum(0) @ one_r
            E += one_r.T @ (N * one.C) @ one_r
            moments.append(E[self.at[:, None], self.at])
        point = raw.detach().clone().requires_grad_()
        inverse, log_det = self.residual.inverses(point, self._seen)
        count = torch.tensor([float(one.N) for one in self.sets], dtype=torch.float64)
        total = count @ log_det + (inverse * torch.stack(moments)).sum()
        (gradient,) = torch.autograd.grad(total, point)
        return gradient


def together(model: Model, panel: Panel, base: JointStatistics) -> Together | None:
    """One pass over the rows of outcomes with correlated residuals; None where there are none.

    base: the sums of all outcomes as if their residuals were independent.
    """
    if model.residual is None:
        return None
    at = torch.tensor(model.residual.among(model.outcomes))
    scaled = [scaled_rows(alone(model, o), alone_panel(model, panel, o)) for o in at.tolist()]
    each = list(base.each)
    for o, one in zip(at.tolist(), scaled, strict=True):
        each[o] = replace(each[o], origin=one.origin)
    inside = (base.outcome_of_row[:, None] == at).any(1)
    own = (base.outcome_of_column[:, None] == at).any(1)
    rest = replace(
        base,
        A=torch.where(inside[:, None] & inside, 0.0, base.A),
        B=torch.where(inside[:, None] & own, 0.0, base.B),
        C=torch.where(own[:, None] & own, 0.0, base.C),
        each=tuple(each),
    )
    subject, table = common_rows([panel.panels[o] for o in at.tolist()])
    T, Z = _columns(model, base, at, scaled, table)
    sets, seen = [], table >= 0
    number = model.residual.numbers(seen)
    for code in number.unique():
        rows = torch.nonzero(number == code)[:, 0]
        some = _sums(panel.n, subject[rows], T[rows], Z[rows])
        sets.append(_Set(seen[rows[0]], len(rows), *some))
    return Together(model.residual, at, rest, tuple(sets))


def _columns(
    model: Model, base: JointStatistics, at: Tensor, scaled: Sequence[Scaled], table: Tensor
) -> tuple[Tensor, Tensor]:
    """T (M, Q) and [X_1 y_1 X_2 y_2 ...] (M, R) of the rows, zero where an outcome is missing."""
    T = torch.zeros(len(table), model.k, dtype=torch.float64)
    Z = torch.zeros(len(table), len(base.of_y), dtype=torch.float64)
    places = columns_of_outcomes(model)
    for k, (o, one) in enumerate(zip(at.tolist(), scaled, strict=True)):
        rows = torch.nonzero(table[:, k] >= 0)[:, 0]
        own, columns = table[rows, k], torch.nonzero(base.outcome_of_column == o)[:, 0]
        T[rows[:, None], places[o]] = torch.from_numpy(np.ascontiguousarray(one.t.T))[own]
        Z[rows[:, None], columns] = torch.from_numpy(np.ascontiguousarray(one.z.T))[own]
    return T, Z


def _sums(n: int, subject: Tensor, T: Tensor, Z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A (n, Q, Q), B (n, Q, R) and C (R, R) of some rows."""
    A = torch.zeros(n, T.shape[1], T.shape[1], dtype=torch.float64)
    B = torch.zeros(n, T.shape[1], Z.shape[1], dtype=torch.float64)
    for rows in torch.arange(len(T)).split(ROWS):
        A.index_add_(0, subject[rows], T[rows, :, None] * T[rows, None])
        B.index_add_(0, subject[rows], T[rows, :, None] * Z[rows, None])
    return A, B, Z.T @ Z
