"""The leading eigenvectors of A'A from products with A and A' alone, and what a ridge leaves of it.

A'A ~= Q diag(value) Q', Q (P, r) orthonormal, found by a block power method (Halko, Martinsson and
Tropp, 2011, SIAM Review 53, 217-288). The matrix I + A'A then is inverted and rooted in r
dimensions; what is left out has eigenvalues far below one, which the identity swallows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["LowRank", "leading"]

SMALL = 0.01
"""Eigenvalues of A'A below this share of the identity beside it are left out."""

FIRST_RANK = 24

LARGEST_GRAM = 1200
"""Rows of a Gram matrix beyond which its leading eigenvectors are looked for instead of all."""


@dataclass(frozen=True)
class LowRank:
    """Q diag(value) Q' beside an identity."""

    Q: Tensor  # (P, r), orthonormal columns
    value: Tensor  # (r,), not negative

    @classmethod
    def of(cls, A: Tensor) -> LowRank:
        """All eigenvalues of A'A that matter beside the identity, A (m, P), by its smaller Gram."""
        rows, size = A.shape
        if min(rows, size) > LARGEST_GRAM:
            generator = torch.Generator().manual_seed(0)
            return leading(lambda Y: A @ Y, lambda Y: A.T @ Y, size, generator)
        value, vector = torch.linalg.eigh(A @ A.T if rows < size else A.T @ A)
        kept = value > 0.1 * SMALL
        value, vector = value[kept], vector[:, kept]
        return cls(A.T @ vector / value.sqrt() if rows < size else vector, value)

    def rescaled(self, factor: Tensor) -> LowRank:
        """The same of D A'A D, D = diag(factor), factor (P,)."""
        Q, R = torch.linalg.qr(factor[:, None] * self.Q)
        value, vector = torch.linalg.eigh((R * self.value) @ R.T)
        return LowRank(Q @ vector, value.clamp(min=0.0))

    def _power(self, x: Tensor, power: float) -> Tensor:
        """(I + A'A)^power x, x (P,) or (P, c)."""
        change = (1 + self.value) ** power - 1
        inner = self.Q.T @ x
        return x + self.Q @ ((change if x.ndim == 1 else change[:, None]) * inner)

    def solve(self, x: Tensor) -> Tensor:
        """(I + A'A)^-1 x."""
        return self._power(x, -1.0)

    def back(self, x: Tensor) -> Tensor:
        """(I + A'A)^-1/2 x, the symmetric root."""
        return self._power(x, -0.5)

    @property
    def share(self) -> Tensor:
        """diag{(I + A'A)^-1 A'A}: how much of every coordinate the data determine, (P,)."""
        return self.Q.square() @ (self.value / (1 + self.value))

    @property
    def log_det(self) -> Tensor:
        """log det(I + A'A)."""
        return torch.log1p(self.value).sum()


def leading(
    forward: Callable[[Tensor], Tensor],
    backward: Callable[[Tensor], Tensor],
    size: int,
    generator: torch.Generator,
    start: Tensor | None = None,
) -> LowRank:
    """Eigenvalues of A'A down to ``SMALL`` with their vectors.

    Args:
        forward: Y (P, r) -> A Y.
        backward: Y (N, r) -> A'Y.
        size: P.
        generator: of the first directions.
        start: (P, r) directions to begin with, such as the Q of a similar matrix.
    """
    rank = FIRST_RANK if start is None else max(FIRST_RANK, start.shape[1])
    while True:
        if rank >= size / 2:
            Q = torch.eye(size, dtype=torch.float64)
        else:
            Q = torch.randn(size, rank, generator=generator, dtype=torch.float64)
            if start is not None:
                Q[:, : start.shape[1]] = start
            for _ in range(1 if start is not None else 2):
                Q = torch.linalg.qr(backward(forward(Q)))[0]
        B = forward(Q)
        value, vector = torch.linalg.eigh(B.T @ B)
        if rank >= size / 2 or float(value[0]) < SMALL:
            break
        rank, start = 2 * rank, Q
    # of a whole matrix nothing need be left out
    kept = value > (0.0 if rank >= size / 2 else 0.1 * SMALL)
    return LowRank(Q @ vector[:, kept], value[kept])
