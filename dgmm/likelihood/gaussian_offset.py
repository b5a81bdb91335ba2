"""log p(y; theta) of a Gaussian model with linear random effects, from the residuals of the mean.

    r = y - eta,   c_i = T_i'W r_i,
    M_i = I + Lambda'A_i Lambda / s2,   b_i = M_i^-1 Lambda'c_i / s2,
    omega = V^-1 r = W (r - T Lambda b) / s2,
    -2 l = N log(2 pi s2) - sum log w + sum_i log det M_i + sum_i (r'W r - b'Lambda'c)_i / s2,

A_i = T_i'W T_i and s2 the residual variance, W prior weights. Unlike the sufficient statistics of
``exact``, eta may be any function: omega = dl / d eta leads to the gradient in its parameters. With

    dl / d Lambda = (c - A Lambda b) b' / s2 - A Lambda M^-1 / s2,
    dl / d log s  = s2 sum omega^2 / w - sum_i (n_i - k + tr M_i^-1).
"""

from __future__ import annotations

import math

import numpy as np
import torch

from dgmm.likelihood.vector import ClassicalObjective
from dgmm.model import Model
from dgmm.numerics.ascent import Evaluation
from dgmm.numerics.cholesky import cholesky, log_det, solve
from dgmm.panel import Panel

__all__ = ["ResidualLikelihood"]


class ResidualLikelihood(ClassicalObjective):
    """The exact log-likelihood of observed rows, Gaussian family with identity link."""

    def __init__(self, model: Model, panel: Panel) -> None:
        super().__init__(model, panel)
        y, trials, weights = (column.numpy() for column in panel.rows.data)
        self.y, self.weights = y / trials, weights
        self.T = np.ascontiguousarray(self.columns.numpy().T)
        seen = panel.count.numpy() > 0
        self.seen, self.start = seen, panel.start.numpy()[seen]
        self.subject = np.repeat(np.arange(len(self.start)), panel.count.numpy()[seen])
        weighted = self.T * weights
        self.A = np.array([[self._sums(a * b) for b in self.T] for a in weighted])
        self.constant = len(y) * math.log(2 * math.pi) - float(np.log(weights).sum())
        self.omega = [torch.empty_like(self.eta)]

    def _sums(self, long: np.ndarray) -> np.ndarray:
        """Sums over the rows of every subject that has any, (..., n)."""
        return np.add.reduceat(long, self.start, axis=-1)

    def value_and_gradient(self, x: np.ndarray, scores: bool = False) -> Evaluation:
        """l(x), its gradient, and with ``scores`` the gradient of every l_i."""
        self.evaluations += 1
        with np.errstate(over="ignore", invalid="ignore"):  # a step too far is refused by its value
            s2 = math.exp(2 * float(np.clip(x[-1], -300.0, 300.0)))
            Lambda, k = self.Lambda(x), self.pattern.q
            r = self.y - self._fixed_part(x).numpy()
            wr = self.weights * r
            c = self._sums(self.T * wr)
            AL = np.tensordot(self.A, Lambda, axes=([1], [0])).transpose(0, 2, 1)  # (q, k, n)
            M = np.tensordot(Lambda.T, AL, axes=1) / s2
            M[np.arange(k), np.arange(k)] += 1.0
            L = cholesky(M)
            Lc = Lambda.T @ c
            b = solve(L, Lc[:, None])[:, 0] / s2
            inverse = solve(L, np.broadcast_to(np.eye(k)[:, :, None], L.shape))
            omega = (wr - self.weights * (self.T * (Lambda @ b)[:, self.subject]).sum(0)) / s2
            self.latest[:, self.seen] = b
            self.omega[0] = torch.from_numpy(omega)
            quadratic = float(wr @ r) - float((b * Lc).sum())
            N = len(r)
            total = self.constant + 2 * N * x[-1] + float(log_det(L).sum()) + quadratic / s2
            residual = (c - (AL * b).sum(1)) / s2
            to_Lambda = residual[:, None] * b - np.einsum("qan,akn->qkn", AL, inverse) / s2
            square = s2 * omega**2 / self.weights
            known = self._counts() - k + np.trace(inverse)
            gradient = self._gradient(omega, to_Lambda.sum(-1), square.sum() - known.sum())
        table = self._scores(omega, to_Lambda, self._sums(square) - known) if scores else None
        return Evaluation(-0.5 * total, gradient, table)

    def _counts(self) -> np.ndarray:
        return np.diff(np.append(self.start, len(self.y)))

    def _gradient(self, omega: np.ndarray, to_Lambda: np.ndarray, last: float) -> np.ndarray:
        beta = self.model.basis.numpy().T @ (self.panel.rows.X.numpy().T @ omega)
        return np.concatenate([beta, self._entries(to_Lambda), [last]])

    def _scores(self, omega: np.ndarray, to_Lambda: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Gradients of every l_i, (n, P)."""
        table = np.zeros((self.panel.n, self.size))
        p = self.sizes[0]
        each = self._sums(self.panel.rows.X.numpy().T * omega).T
        table[self.seen, :p] = each @ self.model.basis.numpy()
        table[self.seen, p:-1] = self._entries(np.moveaxis(to_Lambda, -1, 0))
        table[self.seen, -1] = last
        return table
