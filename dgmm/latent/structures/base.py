"""D = Lambda Lambda' of q columns as a function of some parameters: Lambda = frame L.

D is about the columns as the formula has them. A free D is the same set of matrices on any basis,
so its frame makes the columns orthonormal; a restricted D keeps them apart: its frame is diagonal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from dgmm.formula import LatentTerm, Syntax
from dgmm.latent.records import Boundary, Component
from dgmm.networks import Weights
from dgmm.numerics.bases import orthonormal

__all__ = ["LEAST", "Structure", "alone", "common", "orthogonal", "silent"]

DEPENDENT = 1e-13
"""Share of a column of T outside the span of those before it, below which there is none."""

LEAST = 1e-10
"""A standard deviation of zero is held at this share of its scale."""


@dataclass(frozen=True)
class Structure(ABC):
    """How the covariance of the columns of one random part is parametrised.

    The word in front of the bar is ``name``, its options ``syntax``; ``label`` is the part without
    its group, cs(0 + visit), by which parameters go that belong to no single column.
    """

    dim: int  # q
    label: str = ""

    name: ClassVar[str]
    syntax: ClassVar[Syntax] = Syntax()

    @property
    def free(self) -> bool:
        """The weights are the entries of L."""
        return False

    @classmethod
    def build(cls, term: LatentTerm, dim: int) -> Self:
        """The structure of a formula term.

        Raises:
            ValueError: it has no meaning for so many columns.
        """
        return cls(dim, f"{cls.name}({term.terms})", **term.structure)

    @abstractmethod
    def frame(self, R: Tensor) -> Tensor:
        """K (q, q): the columns of T K have length one or a common scale, for T = QR with any Q."""

    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the weights."""

    @abstractmethod
    def initial(self) -> Weights:
        """Modest effects, independent or nearly so."""

    def starts(self, weights: Weights) -> tuple[Weights, ...]:
        """Weights from which the likelihood may have different maxima, the given ones first."""
        return (weights,)

    @abstractmethod
    def factor(self, weights: Weights) -> Tensor:
        """L (q, q), lower triangular with a positive diagonal."""

    @abstractmethod
    def nearest(self, D: Tensor) -> Weights:
        """Weights whose L L' is a given matrix, or near it where the structure has none such."""

    def wider(self) -> Structure:
        """The free structure that holds it on the same frame."""
        return self

    def lifted(self, weights: Weights) -> Weights:
        """The weights of :meth:`wider` with the same L."""
        return weights

    # -- what is reported --------------------------------------------------------------------

    @abstractmethod
    def components(self, names: tuple[str, ...]) -> tuple[Component, ...]:
        """The reported parameters; ``names`` are those of the columns."""

    @abstractmethod
    def reported(self, weights: Weights, frame: Tensor) -> Tensor:
        """Their values on the natural scale."""

    def from_reported(self, values: Tensor, frame: Tensor) -> Weights:
        """The weights of a restricted structure with some reported values."""
        raise ValueError(f"{self.name} is not given by its standard deviations and correlations")

    @abstractmethod
    def at_boundary(
        self, weights: Weights, floor: float, frame: Tensor, names: tuple[str, ...]
    ) -> Boundary:
        """See :meth:`dgmm.latent.base.Latent.at_boundary`."""

    @abstractmethod
    def blocks(self) -> tuple[tuple[int, ...], ...]:
        """Columns that are correlated, block by block; independent between blocks."""

    @property
    def apart(self) -> bool:
        """A column can be taken out, and what is left has the same structure."""
        return self.free

    def holds(self, other: Structure) -> bool:
        """Whether every D of another structure of the same columns is one of its own."""
        return isinstance(other, type(self))


def orthogonal(R: Tensor) -> Tensor:
    """K (q, q), upper triangular: the columns of T K are orthonormal, for T = QR with any Q.

    Columns that depend linearly on others are scaled to length one instead, all of them.
    """
    size = R.square().sum(0).sqrt()
    if bool((R.diagonal().abs() <= DEPENDENT * size).any()):
        return torch.diag(1 / torch.where(size > 0, size, torch.ones_like(size)))
    K = orthonormal(R)
    return K * K.diagonal().sign()


def alone(R: Tensor) -> Tensor:
    """K (q, q), diagonal: every column of T K has length one."""
    return orthogonal(torch.diag(R.square().sum(0).sqrt()))


def common(R: Tensor) -> Tensor:
    """K (q, q), a multiple of I: the columns of T K have length one on average."""
    size = R.square().sum(0).mean().sqrt()
    return torch.eye(len(R), dtype=R.dtype) / (size if size > 0 else 1.0)


def silent(names: Sequence[str], zero: Tensor) -> dict[str, str]:
    """The effects without variance, and a clause about each."""
    return {
        name: f"the variance of `{name}` is estimated as zero"
        for name, one in zip(names, zero.tolist(), strict=True)
        if one
    }
