"""Functions of theta at theta-hat: their derivatives, their covariance, their intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import special
from torch import Tensor

from dgmm.families.links import LINKS, Link
from dgmm.parameters import Packing

__all__ = ["Derivative", "Spread"]


@dataclass(frozen=True)
class Spread:
    """Some functions of theta at theta-hat, and how they vary: their covariance is left right'."""

    value: Tensor  # (G,)
    left: Tensor  # (G, R), missing in the rows of functions without a standard error
    right: Tensor  # (G, R)
    draws: Tensor | None = None  # (B, G) the functions of every draw of theta
    posterior: bool = False  # draws from a posterior, whose quantiles are the intervals

    @classmethod
    def normal(cls, value: Tensor, covariance: Tensor) -> Spread:
        """Estimates (G,) whose covariance (G, G) is known already."""
        return cls(value, covariance, torch.eye(len(value), dtype=torch.float64))

    @classmethod
    def independent(cls, value: Tensor, se: Tensor) -> Spread:
        """Estimates (G,) with standard errors (G,), each by itself."""
        return cls(value, se[:, None], se[:, None])

    @property
    def se(self) -> Tensor:
        """Standard errors, (G,)."""
        return (self.left * self.right).sum(1).clamp(min=0).sqrt()

    @property
    def covariance(self) -> Tensor:
        """The covariance between the functions, (G, G)."""
        return self.left @ self.right.T

    def combined(self, L: Tensor) -> Spread:
        """The spread of L f, L (H, G)."""
        unknown, missing = self.left.isnan().any(1), self.value.isnan()
        left = L @ torch.where(unknown[:, None], 0.0, self.left)
        left[(L[:, unknown] != 0).any(1)] = torch.nan
        value = L @ torch.where(missing, 0.0, self.value)
        value[(L[:, missing] != 0).any(1)] = torch.nan
        draws = None if self.draws is None else self.draws @ L.T
        return Spread(value, left, L @ self.right, draws, self.posterior)

    def mapped(self, function: Callable[[Tensor], Tensor], slope: Tensor) -> Spread:
        """The spread of g(f), ``slope`` (G,) its derivative there; of a posterior by its draws."""
        if not self.posterior:
            left, right = slope[:, None] * self.left, slope[:, None] * self.right
            return Spread(function(self.value), left, right)
        assert self.draws is not None
        drawn = function(self.draws)
        deviation = (drawn - drawn.mean(0)).T / (len(drawn) - 1) ** 0.5
        unknown = self.left.isnan().any(1) | self.value.isnan()
        deviation = torch.where(unknown[:, None], torch.nan, deviation)
        value = torch.where(self.value.isnan(), torch.nan, drawn.mean(0))
        return Spread(value, deviation, deviation, drawn, posterior=True)

    def interval(
        self, level: float, link: Link = LINKS["identity"], *, percentiles: bool = False
    ) -> Tensor:
        """Lower and upper ends, (G, 2).

            link^-1{ link(f) +- z se / |link^-1'(link(f))| },   or percentiles of the draws

        Args:
            level: probability that an interval covers.
            link: the scale on which an interval is symmetric; its ends never leave the range.
            percentiles: of the draws, for :class:`Draws`; always those of a posterior.

        Raises:
            ValueError: percentiles of a covariance.
        """
        tail = (1 - level) / 2
        if percentiles or self.posterior:
            if self.draws is None:
                raise ValueError("percentiles need draws of theta, and a covariance has none")
            ends = np.nanquantile(self.draws.numpy(), [tail, 1 - tail], axis=0)
            return torch.from_numpy(ends).T
        centre, z = link.forward(self.value), float(special.ndtri(1 - tail))
        spread = z * self.se / link.derivative(centre).abs()
        sides = torch.stack([link.inverse(centre - spread), link.inverse(centre + spread)], dim=1)
        return sides.sort(dim=1).values


@dataclass(frozen=True)
class Derivative:
    """d f / d theta in the parameters of ``packing``, which alone move f; some rows at a time."""

    packing: Packing
    blocks: Callable[[], Iterator[tuple[Tensor, Tensor]]]  # positions (R,), derivatives (R, P)

    @classmethod
    def dense(cls, packing: Packing, matrix: Callable[[], Tensor]) -> Derivative:
        """All rows in one matrix (G, P)."""

        def blocks() -> Iterator[tuple[Tensor, Tensor]]:
            J = matrix()
            yield torch.arange(len(J)), J

        return cls(packing, blocks)
