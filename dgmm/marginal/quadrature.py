"""Adaptive Gauss-Hermite quadrature: `likelihood="quadrature"`, latent dimension at most 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dgmm.marginal.base import NodeRule
from dgmm.quadrature import Nodes, gauss_hermite

__all__ = ["Quadrature"]

START = {1: 25, 2: 11, 3: 7}
LONGEST = {1: 201, 2: 41, 3: 21}


@dataclass(frozen=True)
class Quadrature(NodeRule):
    """``points`` nodes per dimension around every subject's mode."""

    points: int

    name = "quadrature"

    @classmethod
    def default(cls, k: int) -> Quadrature:
        """The rule a fit starts with; it grows until the log-likelihood stands still."""
        if k not in START:
            raise ValueError(
                f"likelihood='quadrature' needs at most 3 random effects per subject, this model "
                f"has {k}. Use likelihood='importance'."
            )
        return cls(START[k])

    def longer(self, k: int) -> Quadrature | None:
        """About twice as many points, or None at the longest rule."""
        points = min(2 * self.points + 1, LONGEST[k])
        return Quadrature(points) if points > self.points else None

    def nodes(
        self, k: int, n: int, rng: np.random.Generator, keys: Sequence[int] | None = None
    ) -> Nodes:
        return gauss_hermite(k, self.points)

    def count(self, k: int) -> int:
        return self.points**k

    def describe(self, k: int) -> str:
        product = " x ".join([str(self.points)] * k)
        return f"adaptive Gauss-Hermite quadrature, {product} points"
