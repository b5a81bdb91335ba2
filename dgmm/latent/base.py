"""What a latent structure must supply: the prior of b and mu2(b, T)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor

from dgmm.design import LatentBlock
from dgmm.networks import Weights

__all__ = ["Latent"]


class Latent(ABC):
    """b_i ~ N(0, I_k) and its contribution mu2(b_i, T_ij) to the linear predictor, E mu2 = 0.

    The word left of the bar is ``name``; the class is made from the term's design block by
    :meth:`build`. ``scale`` (q,) puts the raw weights on a common footing: the unit of the
    linear predictor over the root mean square of each column of T.
    """

    name: ClassVar[str]
    label: str  # the term as written in the formula
    dim: int  # k
    names: tuple[str, ...]  # columns of T
    scale: Tensor  # (q,)
    penalised: frozenset[str] = frozenset()  # weights under the ridge
    ridge: float = 0.0  # of the penalised weights, before held-out subjects have spoken
    effort: float = 1.0  # share of the epochs that its search takes
    weak: Mapping[str, float] = MappingProxyType({})  # others under a penalty that stays
    linear: ClassVar[bool]  # mu2 linear in b

    @classmethod
    @abstractmethod
    def build(cls, block: LatentBlock, unit: float) -> Latent:
        """Read dimensions and scales off the design; ``unit`` is the scale of eta."""

    @abstractmethod
    def layers(self) -> str:
        """Sizes of the layers of its network for the summary ("" when linear)."""

    def remark(self, weights: Weights) -> str:
        """A sentence for the summary about what the layers do not show ("" when there is none)."""
        return ""

    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the raw parameters."""

    @abstractmethod
    def initial(self, generator: torch.Generator) -> Weights:
        """Starting values when nothing is known: modest independent effects."""

    @abstractmethod
    def tied(self, covariance: Tensor, gram: Tensor, generator: torch.Generator) -> Weights:
        """Weights that reproduce the linear latent with D = ``covariance`` (q, q).

        gram: (q, q) mean of T'T, by which directions of b are ordered.
        """

    def following(self, weights: Weights, T: Tensor, profile: Tensor) -> Weights:
        """Weights near the linear ones whose curve, where there is one, is the mean profile (N,) at
        the rows T (N, q).
        """
        return weights

    @abstractmethod
    def prepare(self, weights: Weights) -> Weights:
        """Small quantities that follow from the weights alone (centres), computed once."""

    @abstractmethod
    def effect(self, weights: Weights, b: Tensor, T: Tensor, basis: Tensor) -> Tensor:
        """mu2: b (..., n, k), T (n, J, q), basis (n, J, r) -> (..., n, J)."""

    @abstractmethod
    def slope(self, weights: Weights, b: Tensor, T: Tensor, basis: Tensor) -> Tensor:
        """d mu2 / d b at b (..., n, k): (..., n, J, k), or (n, J, k) where b does not matter."""

    def places(self, weights: Weights) -> Tensor:
        """Values of b near which a mode of b | y may lie, (c, k), zero first and often alone."""
        return torch.zeros(1, self.dim, dtype=torch.float64)

    @abstractmethod
    def skip(self, weights: Weights) -> Tensor:
        """The linear part, (q, k): mu2 = T skip b + (what is not linear)."""

    def tangent(self, weights: Weights) -> Tensor:
        """What a linear encoder should take for the linear part, (q, k)."""
        return self.skip(weights)
