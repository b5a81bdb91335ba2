"""The Laplace approximation as a rule of one node: `likelihood="laplace"`, any latent dimension."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dgmm.likelihood.rules.base import NodeRule
from dgmm.numerics.quadrature import Nodes

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
        e = torch.zeros(1, 1, k, dtype=torch.float64)
        return Nodes(e, torch.full((1, 1), 0.5 * k * math.log(2 * math.pi), dtype=torch.float64))

    def count(self, k: int) -> int:
        return 1

    def describe(self, k: int) -> str:
        return "Laplace approximation"
