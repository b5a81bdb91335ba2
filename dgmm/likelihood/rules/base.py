"""A node rule: where the integrand is evaluated around b | y, and with which weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from torch import Tensor

from dgmm.model import log_prior
from dgmm.numerics.quadrature import Nodes

__all__ = ["NodeRule"]


class NodeRule(ABC):
    """A table of nodes for every subject."""

    name: ClassVar[str]

    @abstractmethod
    def nodes(
        self, k: int, n: int, rng: np.random.Generator, keys: Sequence[int] | None = None
    ) -> Nodes:
        """The table for n subjects and k latent dimensions; ``keys`` seed subject by subject."""

    @abstractmethod
    def count(self, k: int) -> int:
        """Nodes per subject."""

    def log_base(self, e: Tensor) -> Tensor:
        """Log of the base density at e (..., k), (...): N(0, I) unless a rule has another."""
        return log_prior(e)

    def longer(self, k: int) -> NodeRule | None:
        """The next more accurate rule by which the error of this one is known, None without one."""
        return None

    @abstractmethod
    def describe(self, k: int) -> str:
        """For the summary: the rule in words."""
