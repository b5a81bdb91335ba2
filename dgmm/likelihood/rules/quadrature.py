"""Adaptive Gauss-Hermite quadrature: `likelihood="quadrature"`, latent dimension at most 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dgmm.likelihood.rules.base import NodeRule
from dgmm.numerics.quadrature import Nodes, gauss_hermite

__all__ = ["Quadrature"]

LADDER = {
    1: (9, 15, 25, 41, 67, 111, 201, 401, 801, 1601, 3201),
    2: (7, 11, 17, 27, 41),
    3: (5, 7, 11, 17),
}
"""Points per dimension that a growing rule goes through."""


@dataclass(frozen=True)
class Quadrature(NodeRule):
    """``points`` nodes per dimension around b | y of every subject."""

    points: int

    name = "quadrature"

    @classmethod
    def default(cls, k: int) -> Quadrature:
        """The rule a fit starts with; it grows until the log-likelihood stands still."""
        reason = cls.cannot(k)
        if reason is not None:
            raise ValueError(f"likelihood='quadrature' is not available: {reason}")
        return cls(LADDER[k][0])

    @classmethod
    def cannot(cls, k: int) -> str | None:
        """Why k random effects are too many, None when they are not."""
        if k in LADDER:
            return None
        return f"it needs at most {max(LADDER)} random effects per subject, this model has {k}"

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
