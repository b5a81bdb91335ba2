"""The statistics of a Gaussian mixed model from sums over the rows of every subject.

The rows are not in memory; the sums are, of millions of subjects. So every evaluation goes through
some subjects at a time, and keeps nothing of them between the value and its gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dgmm.latent import Pattern
from dgmm.likelihood.posterior import Effects, Posterior, Predictive
from dgmm.likelihood.statistics import Bend, Pieces, Statistics
from dgmm.likelihood.sufficient import Sufficient, relative
from dgmm.model import Model
from dgmm.numerics.cholesky import backward, forward
from dgmm.panel import Panel, Sums
from dgmm.runtime.absent import ABSENT

__all__ = ["Blocked", "SummedPosterior", "summed_statistics"]

SUBJECTS = 4096
"""Subjects of a block: their sums stay in the cache of a processor."""


@dataclass(frozen=True)
class Blocked:
    """Statistics that are reduced some subjects at a time."""

    whole: Statistics

    p = property(lambda self: self.whole.p)
    C = property(lambda self: self.whole.C)
    origin = property(lambda self: self.whole.origin)
    N = property(lambda self: self.whole.N)
    constant = property(lambda self: self.whole.constant)
    unit = property(lambda self: self.whole.unit)
    log_det_basis = property(lambda self: self.whole.log_det_basis)
    pattern = property(lambda self: self.whole.pattern)

    def blocks(self) -> Iterator[Statistics]:
        """Those of some subjects; what is of all rows together stays as it is."""
        for first in range(0, self.whole.A.shape[-1], SUBJECTS):
            at = slice(first, first + SUBJECTS)
            yield replace(self.whole, A=self.whole.A[..., at], B=self.whole.B[..., at])

    def reduce(self, Lambda: np.ndarray) -> InBlocks:
        """S and sum_i log det M_i at Lambda relative to sigma."""
        S, log_det = self.whole.C.copy(), 0.0
        for block in self.blocks():
            found = block.reduce(Lambda)
            S += found.S - self.whole.C
            log_det += found.log_det
        return InBlocks(self, Lambda, S, log_det)


@dataclass(frozen=True)
class InBlocks:
    """The statistics at some Lambda, of which the parts of subjects are calculated again."""

    form = "observed information in closed form"

    stats: Blocked
    Lambda: np.ndarray  # (q, q)
    S: np.ndarray  # (p + 1, p + 1)
    log_det: float

    def pieces(self) -> Iterator[Pieces]:
        """Those of the blocks, with S of all."""
        for block in self.stats.blocks():
            yield replace(block.reduce(self.Lambda), S=self.S)

    def slope(self, v: np.ndarray, precision: float, restricted: bool) -> np.ndarray:
        """The gradient in Lambda of log det M + precision v'S v (+ log det S_xx)."""
        slope = np.zeros_like(self.Lambda)
        for piece in self.pieces():
            slope += piece.slope(v, precision, restricted)
        return slope

    def curvature(self, v: np.ndarray, precision: float, restricted: bool) -> Bend | None:
        """Its second derivatives; left to differences where beta is integrated out."""
        if restricted:  # what integration takes is no sum over subjects
            return None
        parts = [piece.curvature(v, precision, restricted) for piece in self.pieces()]
        return Bend(*(np.sum(one, axis=0) for one in zip(*parts, strict=True)))

    @property
    def coefficient_slope(self) -> np.ndarray:
        """The slope of S_xx in Lambda, (q, q, p, p)."""
        found: np.ndarray = np.sum([piece.coefficient_slope for piece in self.pieces()], axis=0)
        return found


def summed_statistics(model: Model, sums: Sums) -> Sufficient:
    """The statistics of a model in whose coordinates the sums are.

    Raises:
        ValueError: they are those of a model with other columns.
    """
    frames = [latent.frame / model.unit for latent in model.latents]
    same = len(frames) == len(sums.random) and torch.equal(model.basis / model.unit, sums.fixed)
    if not same or not all(map(torch.equal, frames, sums.random)):
        raise ValueError(ABSENT)
    constant = 2 * sums.seen * float(np.log(model.unit)) - sums.log_weights
    basis_det = float(torch.linalg.slogdet(model.basis)[1])
    return Blocked(
        Statistics(
            sums.A,
            sums.B,
            sums.C,
            sums.origin,
            sums.seen,
            constant,
            model.unit,
            basis_det,
            Pattern.of(model.latents),
        )
    )


@dataclass(frozen=True)
class SummedPosterior(Posterior):
    """b_i given y_i from sums: N(M_i^-1 Lambda'T_i'(y_i - X_i beta) / sigma, M_i^-1).

    Lambda relative to sigma. v: (p + 1,), [X r] v = r - X (beta - origin). scale: sigma / unit.
    """

    found: InBlocks
    v: np.ndarray
    scale: float

    @classmethod
    def of(cls, stats: Sufficient, theta: np.ndarray) -> SummedPosterior:
        """At the vector theta (beta, latents, log sigma)."""
        Lambda, scale = relative(stats, theta)
        v = np.append(stats.origin - theta[: stats.p], 1.0)
        found = stats.reduce(Lambda)
        assert isinstance(found, InBlocks)
        return cls(found, v, scale)

    def effects(self) -> Effects:
        n, k = self.found.stats.whole.A.shape[-1], len(self.found.Lambda)
        mean, covariance = np.empty((n, k)), np.empty((n, k, k))
        first = 0
        for piece in self.found.pieces():
            at = slice(first, first + piece.L.shape[-1])
            inner = np.tensordot(self.v, piece.K, axes=([0], [1]))[:, None]
            mean[at] = backward(piece.L, inner)[:, 0].T / self.scale
            eye = np.broadcast_to(np.eye(k)[:, :, None], piece.L.shape)
            covariance[at] = backward(piece.L, forward(piece.L, eye)).transpose(2, 0, 1)
            first = at.stop
        return Effects((torch.from_numpy(mean),), (torch.from_numpy(covariance),))

    def effect_draws(self, generator: torch.Generator) -> Tensor:
        raise ValueError(ABSENT)

    def log_density(self) -> Tensor:
        raise ValueError(ABSENT)

    def predictive(self, target: Panel, scale: str) -> Predictive:
        raise ValueError(ABSENT)

    def draws(self, target: Panel, size: int, generator: torch.Generator) -> Tensor:
        raise ValueError(ABSENT)
