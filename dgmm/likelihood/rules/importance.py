"""Importance sampling with quasi-random t draws around b | y: `likelihood="importance"`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from dgmm.likelihood.rules.base import NodeRule
from dgmm.numerics.quadrature import Nodes, log_t, sobol_t

__all__ = ["Importance"]


@dataclass(frozen=True)
class Importance(NodeRule):
    """``draws`` scrambled Sobol points per subject through a multivariate t, any latent dimension.

    The heavy tail widens the proposal: normal proposals have weights of infinite variance.
    """

    draws: int = 512
    df: float = 5.0

    name = "importance"

    def nodes(
        self, k: int, n: int, rng: np.random.Generator, keys: Sequence[int] | None = None
    ) -> Nodes:
        return sobol_t(n, k, self.draws, rng, self.df, keys)

    def count(self, k: int) -> int:
        return self.draws

    def log_base(self, e: Tensor) -> Tensor:
        return log_t(e, self.df)

    def describe(self, k: int) -> str:
        return f"importance sampling, {self.draws} quasi-random t({self.df:g}) draws per subject"
