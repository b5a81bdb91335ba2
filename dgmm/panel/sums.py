"""Sums over the rows of every subject, where the rows themselves are not in memory.

    A_i = T_i'T_i,   B_i = T_i'[X_i r_i],   C = [X r]'[X r]

in the coordinates of one model: T and X stand for T frame / unit and X basis / unit, r for
y / unit less X origin, all times the root of the prior weights. Given theta, b_i depends on its
rows through A_i and B_i alone, so a few rows with these products stand for all of a subject:

    A_i = U'U,   T_i -> U,   [X_i r_i] -> U^-T B_i.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dgmm.families import Observations
from dgmm.panel.rows import Rows

__all__ = ["Sums"]

ZERO = 1e-12
"""Share of the largest eigenvalue of A_i below which one is rounding."""


@dataclass(frozen=True, eq=False)
class Sums:
    """See the module; subjects on the last axis."""

    A: np.ndarray  # (q, q, n)
    B: np.ndarray  # (q, p + 1, n)
    C: np.ndarray  # (p + 1, p + 1)
    origin: np.ndarray  # (p,)
    log_weights: float  # of the outcomes seen
    count: Tensor  # (n,) outcomes seen
    planned: int  # rows, those whose outcome is missing too
    unit: float
    fixed: Tensor  # (p, p) basis / unit
    random: tuple[Tensor, ...]  # per latent term, (q, q) frame / unit
    outcome: tuple[float, float] = (0.0, 0.0)  # mean and root mean square of y less its offset

    @property
    def seen(self) -> int:
        """Number of outcomes seen."""
        return int(self.count.sum())

    def rows(self, at: np.ndarray) -> tuple[Rows, Tensor]:
        """Rows that stand for those of some subjects ``at`` (m,), and how many each has, (m,)."""
        A, B = self.A[:, :, at].transpose(2, 0, 1), self.B[:, :, at].transpose(2, 0, 1)
        value, vector = np.linalg.eigh(A)
        there = value > ZERO * np.maximum(value[:, -1:], np.finfo(float).tiny)
        root = np.sqrt(np.where(there, value, 0.0))
        inverse = np.divide(1.0, root, out=np.zeros_like(root), where=there)
        turned = vector.transpose(0, 2, 1)
        Z = (inverse[:, :, None] * (turned @ B))[self.count[at].numpy() > 0]
        U = (root[:, :, None] * turned)[self.count[at].numpy() > 0]
        q, p = len(self.A), len(self.origin)
        X, T = torch.from_numpy(Z[..., :p].reshape(-1, p)), torch.from_numpy(U.reshape(-1, q))
        y = self.unit * torch.from_numpy(Z[..., p].ravel() + X.numpy() @ self.origin)
        size, one = len(y), torch.ones_like(y)
        own = T.split([len(frame) for frame in self.random], dim=1)
        as_written = tuple(
            _divided(columns, frame) for columns, frame in zip(own, self.random, strict=True)
        )
        rows = Rows(
            Observations(y, one, one),
            torch.zeros_like(y),
            _divided(X, self.fixed),
            (),
            as_written,
            as_written,
            (),
            torch.full_like(y, torch.nan),
            torch.arange(size) % q,
        )
        return rows, q * (self.count[at] > 0).long()


def _divided(columns: Tensor, by: Tensor) -> Tensor:
    """columns by^-1 for upper triangular ``by``."""
    if not by.numel():
        return columns
    found: Tensor = torch.linalg.solve_triangular(by, columns, upper=True, left=False)
    return found.contiguous()
