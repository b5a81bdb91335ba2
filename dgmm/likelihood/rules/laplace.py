"""The Laplace approximation as a rule of one node: `likelihood="laplace"`, any latent dimension."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dgmm.likelihood.rules.base import NodeRule
from dgmm.numerics.quadrature import Nodes, gauss_hermite

__all__ = ["Laplace"]


@dataclass(frozen=True)
class Laplace(NodeRule):
    """One node, the mode of every subject: l_i = log p(y_i | b_i) - |b_i|^2/2 - log det H_i / 2.

    An approximation, not the likelihood: with few binary outcomes per subject it is biased.
    """

    name = "laplace"

    def nodes(
        self, k: int, n: int, rng: np.random.Generator, keys: Sequence[int] | None = None
    ) -> Nodes:
        return gauss_hermite(k, 1)

    def count(self, k: int) -> int:
        return 1

    def describe(self, k: int) -> str:
        return "Laplace approximation"
