"""The working information about eta: V_i^-1 = (W_i^-1 + T_i D T_i')^-1, and a root of it.

W_ij is the expected information about eta_ij at the mode of b_i. For a Gaussian outcome V_i is the
covariance of y_i and J'V^-1 J the exact information about parameters of the mean with Jacobian J;
for other families it is that of the outcome linearised at the modes. With U = W^(1/2) T Lambda and
E = U'U, subject by subject,

    V_i^-1 = R_i'R_i,   R_i = (I - U_i H_i U_i') W_i^(1/2),   E H^2 - 2 H + (I + E)^-1 = 0,

H_i from the eigenvalues e of E_i: h = {1 - (1 + e)^-1/2} / e.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dgmm.latent import Pattern
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta, part

__all__ = ["LEAST_OF_EXTRA", "Working", "least_of_loadings", "working_information"]

LEAST_OF_EXTRA = 0.01
"""The least that is known of a parameter of the family: a standard error of 10 on a log scale."""


@dataclass(frozen=True)
class Working:
    """R over long rows, subjects contiguous."""

    root: Tensor  # (N,) W^(1/2)
    U: Tensor  # (N, k)
    H: Tensor  # (n, k, k), symmetric
    subject: Tensor  # (N,)

    def _reduced(self, Y: Tensor) -> Tensor:
        """(I - U H U') Y, Y (N, r)."""
        n, k = len(self.H), self.U.shape[1]
        zero = torch.zeros(n, Y.shape[1], dtype=Y.dtype)
        columns = [zero.index_add(0, self.subject, u[:, None] * Y) for u in self.U.T]
        inner = self.H @ torch.stack(columns, dim=1)
        out = Y.clone()
        for j in range(k):
            out -= self.U[:, j, None] * inner[:, j][self.subject]
        return out

    def forward(self, Y: Tensor) -> Tensor:
        """R Y, Y (N, r)."""
        return self._reduced(self.root[:, None] * Y)

    def backward(self, Y: Tensor) -> Tensor:
        """R'Y."""
        return self.root[:, None] * self._reduced(Y)

    def within(self, Y: Tensor) -> Tensor:
        """Y_i'V_i^-1 Y_i of every subject, (n, r, r), from the root: no digits cancel."""
        RY = self.forward(Y)
        products = (RY[:, :, None] * RY[:, None, :]).flatten(1)
        total = torch.zeros(len(self.H), products.shape[1], dtype=Y.dtype)
        return total.index_add_(0, self.subject, products).unflatten(1, (Y.shape[1], Y.shape[1]))


def working_information(
    model: Model, theta: Theta, panel: Panel, eta: Tensor, effects: Tensor
) -> Working:
    """R of a classical model.

    Args:
        model: a classical model.
        theta: its parameters, of which Lambda and ``extra`` are used.
        panel: the observed rows.
        eta: the fixed part of the linear predictor, (N,).
        effects: coefficients Lambda b of the columns of T at the modes of b, (n, q).
    """
    blocks = [
        latent.loadings(part(theta, f"latent{i}.")) for i, latent in enumerate(model.latents, 1)
    ]
    inside = torch.tensor(model.predictor_of_columns()) == 0  # others enter a part such as zi=
    T = torch.cat(panel.rows.T, dim=1) * inside
    TL = T @ torch.block_diag(*blocks)
    eta = eta + (T * effects[panel.subject]).sum(1)
    with torch.no_grad():
        W = model.family.information(panel.rows.data, eta, model.extra(theta, panel.rows))
    root = W.clamp(min=0.0).sqrt()  # a bound on the information may be negative by rounding
    U = root[:, None] * TL
    n, k = panel.n, U.shape[1]
    products = (U[:, :, None] * U[:, None, :]).flatten(1)
    E = torch.zeros(n, k * k, dtype=torch.float64).index_add_(0, panel.subject, products)
    e, vector = torch.linalg.eigh(E.reshape(n, k, k))
    s = (1 + e.clamp(min=0.0)).sqrt()
    h = 1 / (s * (1 + s))  # {1 - 1/s} / (s^2 - 1)
    return Working(root, U, (vector * h[:, None, :]) @ vector.mT, panel.subject)


def least_of_loadings(pattern: Pattern, entries: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The curvature in the free entries (E,) of Lambda near zero, where scores vanish, (E,).

    There l is a function of lambda^2 with scores s = ds/d(lambda^2) 2 lambda, and its curvature
    in lambda is of the order of the standard deviation of the sum of ds/d(lambda^2).

    Args:
        pattern: where the entries stand.
        entries: their values.
        known: the information about every one, from the scores.
    """
    length = np.sqrt((pattern.fill(entries) ** 2).sum(0))[pattern.column]
    least: np.ndarray = np.sqrt(known) / (2 * np.maximum(length, 1e-12))
    return least
