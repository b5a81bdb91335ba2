"""The free entries of a block diagonal Lambda."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dgmm.latent import Latent, Normal
from dgmm.model import Model
from dgmm.parameters import Theta

__all__ = ["Pattern", "near_zero"]


@dataclass(frozen=True)
class Pattern:
    """The free entries of a block diagonal, lower triangular Lambda, in the order of theta.

    Per latent term first its diagonal, then the entries below it row by row.
    """

    row: np.ndarray
    column: np.ndarray
    q: int

    @classmethod
    def of(cls, latents: tuple[Normal, ...]) -> Pattern:
        """Read the blocks off the latent terms."""
        row: list[int] = []
        column: list[int] = []
        first = 0
        for latent in latents:
            size = latent.dim
            below = [] if latent.diagonal else [(r, c) for r in range(size) for c in range(r)]
            for r, c in [(j, j) for j in range(size)] + below:
                row.append(first + r)
                column.append(first + c)
            first += size
        return cls(np.array(row, dtype=int), np.array(column, dtype=int), first)

    @classmethod
    def of_model(cls, model: Model) -> Pattern:
        """The pattern of the linear latent terms of a model."""
        return cls.of(tuple(lat for lat in model.latents if isinstance(lat, Normal)))

    @property
    def on_diagonal(self) -> np.ndarray:
        """True where a free entry lies on the diagonal."""
        return self.row == self.column

    def weights(self, latents: tuple[Latent, ...], L: np.ndarray) -> Theta:
        """The parameters of all latents whose Lambda is diag(scale) L, L (q, q) block diagonal."""
        theta: Theta = {}
        first = 0
        for i, latent in enumerate(latents, 1):
            last = first + latent.dim
            block = torch.from_numpy(L[first:last, first:last])
            # a zero on the diagonal (boundary) is held at a value that adds nothing to any sum
            theta[f"latent{i}.log_diagonal"] = block.diagonal().clamp(min=1e-10).log()
            if "below" in latent.shapes():
                row, column = torch.tril_indices(latent.dim, latent.dim, -1)
                theta[f"latent{i}.below"] = block[row, column]
            first = last
        return theta

    def entries(self, latents: tuple[Latent, ...], theta: Theta) -> Tensor:
        """The free entries of L at some theta, differentiable, (E,)."""
        parts = []
        for i, latent in enumerate(latents, 1):
            parts.append(theta[f"latent{i}.log_diagonal"].exp())
            if "below" in latent.shapes():
                parts.append(theta[f"latent{i}.below"])
        return torch.cat(parts)

    def fill(self, entries: np.ndarray) -> np.ndarray:
        """Lambda (q, q) from its free entries."""
        L = np.zeros((self.q, self.q))
        L[self.row, self.column] = entries
        return L


def near_zero(pattern: Pattern, entries: np.ndarray) -> np.ndarray:
    """Diagonal entries of Lambda that are small beside the largest entry, (E,) bool."""
    largest = max(1.0, float(np.abs(entries).max()))
    return pattern.on_diagonal & (np.abs(entries) < 0.01 * largest)
