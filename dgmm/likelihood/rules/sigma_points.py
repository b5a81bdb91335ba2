"""Sigma points: exact posterior moments of a normal, whatever its dimension."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dgmm.likelihood.rules.base import NodeRule
from dgmm.numerics.quadrature import Nodes

__all__ = ["SigmaPoints"]


@dataclass(frozen=True)
class SigmaPoints(NodeRule):
    """2 k nodes +-sqrt(k) e_j of equal weight around the mode.

    They integrate polynomials up to degree three against a normal density exactly: value and
    scores of a Gaussian model whose random part is linear in b.

    References:
        Julier and Uhlmann (2004), Proceedings of the IEEE 92, 401-422.
    """

    name = "exact"

    def nodes(
        self, k: int, n: int, rng: np.random.Generator, keys: Sequence[int] | None = None
    ) -> Nodes:
        e = math.sqrt(k) * torch.eye(k, dtype=torch.float64)
        height = 0.5 * k * (1 + math.log(2 * math.pi)) - math.log(2 * k)
        log_weight = torch.full((2 * k, 1), height, dtype=torch.float64)
        return Nodes(torch.cat([e, -e])[:, None], log_weight)

    def count(self, k: int) -> int:
        return 2 * k

    def describe(self, k: int) -> str:
        return "exact"
