"""Adaptive Gauss-Hermite quadrature: `likelihood="quadrature"`, latent dimension at most 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dgmm.likelihood.nodes import NodeRule
from dgmm.numerics.quadrature import Nodes, gauss_hermite

__all__ = ["Quadrature"]

LADDER = {
    1: (9, 15, 25, 41, 67, 111, 201),
    2: (7, 11, 17, 27, 41),
    3: (5, 7, 11, 17),
}
"""Points per dimension that a growing rule goes through."""


@dataclass(frozen=True)
class Quadrature(NodeRule):
    """``points`` nodes per dimension around every subject's mode."""

    points: int

    name = "quadrature"

    @classmethod
    def default(cls, k: int) -> Quadrature:
        """The rule a fit starts with; it grows until the log-likelihood stands still."""
        if k not in LADDER:
            raise ValueError(
                f"likelihood='quadrature' needs at most 3 random effects per subject, this model "
                f"has {k}. Use likelihood='importance'."
            )
        return cls(LADDER[k][0])

    def longer(self, k: int) -> Quadrature | None:
        """The next longer rule, or None at the longest one."""
        return next((Quadrature(m) for m in LADDER[k] if m > self.points), None)

    def nodes(
        self, k: int, n: int, rng: np.random.Generator, keys: Sequence[int] | None = None
    ) -> Nodes:
        return gauss_hermite(k, self.points)

    def count(self, k: int) -> int:
        return self.points**k

    def describe(self, k: int) -> str:
        product = " x ".join([str(self.points)] * k)
        return f"adaptive Gauss-Hermite quadrature, {product} points"
