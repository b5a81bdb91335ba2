"""The innovations of a Gaussian model with paths, and the classical sums that they give.

The filter makes the rows of [F, T, X, y] independent. Innovations over the roots of their variances
stand where rows stood: the model is a classical one, T Lambda b_i its random effects, whose sums
(:mod:`dgmm.likelihood.statistics`) give beta, sigma, the restricted likelihood and all else, and

    -2 l = [classical] + sum log F_j + sum_i log det G_i,ff,

G_ff the products of what has a flat prior, taken out first. Every outcome counts a log 2 pi, those
that say where a diffuse path begins included, as in Durbin and Koopman (2012), section 7.2.2.

Of the classical part the slope in the products of innovations is -1/2 H_i H_i'; with the columns of
H_i as right-hand sides the pass backwards gives the slope of l in the matrices of the filter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from dgmm.latent import Pattern
from dgmm.likelihood.packed import Packed, eliminated
from dgmm.likelihood.path_weights import PathSlopes, PathWeights
from dgmm.likelihood.statistics import Pieces, Statistics
from dgmm.numerics.cholesky import backward
from dgmm.numerics.kalman import Filtered, filtered
from dgmm.parameters import Theta

__all__ = ["Innovations"]


@dataclass(frozen=True)
class Innovations:
    """Those of the columns [F, T, X, y] at some weights of the paths, for errors of variance 1."""

    paths: PathWeights
    found: Filtered

    @classmethod
    def at(cls, packed: Packed, moving: Theta) -> Innovations:
        """One pass of the filter; ``moving`` are weights relative to sigma."""
        paths = PathWeights.of(packed, moving)
        return cls(paths, filtered(paths.system(), paths.centred(packed.columns)))

    @property
    def packed(self) -> Packed:
        """The rows."""
        return self.paths.packed

    @property
    def f(self) -> int:
        """Columns with a flat prior."""
        return len(self.packed.flat)

    @property
    def q(self) -> int:
        """Columns of random effects."""
        return len(self.packed.t)

    # -- forwards --------------------------------------------------------------------------------

    @cached_property
    def products(self) -> np.ndarray:
        """G_i: F and T with all columns, (f + q, r, n)."""
        z = self.found.whitened
        return self.packed.sums(z[: self.f + self.q], z)

    @cached_property
    def flat(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """F taken out of all columns, see :func:`~dgmm.likelihood.packed.eliminated`."""
        return eliminated(self.products[: self.f], self.f)

    @cached_property
    def statistics(self) -> Statistics:
        """The classical sums, of T, X and y."""
        packed, f, q = self.packed, self.f, self.q
        rest, z = self.products[f:, f:], self.found.whitened[f + q :]
        C, N, model = z @ z.T, int(packed.seen.sum()), packed.model
        constant = float(self.found.log_F.sum()) + 2 * N * math.log(model.unit)
        if f:
            L, K, known = self.flat
            own = K[:, f:]
            rest = rest - np.einsum("fan,fbn->abn", own[:, :q], own)
            C = C - np.einsum("fan,fbn->ab", own[:, q:], own[:, q:])
            pivots = np.einsum("jjn->jn", L)[known]
            N -= len(pivots)
            constant += float(2 * np.log(pivots).sum() + len(pivots) * math.log(2 * math.pi))
        return Statistics(
            rest[:, :q],
            rest[:, q:],
            C,
            packed.origin,
            N,
            constant,
            model.unit,
            float(torch.linalg.slogdet(model.basis)[1]),
            Pattern.of(model.latents),
        )

    # -- backwards -------------------------------------------------------------------------------

    def slopes(
        self, pieces: Pieces, v: np.ndarray, precision: float, restricted: bool
    ) -> PathSlopes:
        """The slopes of l in the matrices of the filter and in what inputs add, row by row.

        l = -1/2 {log det M + precision v'S v (+ log det S_xx) + sum log F + log det G_ff}.
        """
        H, found = self._combinations(pieces, v, precision, restricted), self.found
        series, h = self.packed.steps.series, H[-1].shape[0]
        own = np.zeros((h, len(series)))
        m = np.zeros((len(found.m), h, len(series)))
        for one, innovation, mean in zip(H, found.v, found.m.swapaxes(0, 1), strict=True):
            weight = one[:, series] if one.shape[1] > 1 else one
            own += weight * innovation
            m += weight * mean[:, None]
        back = found.backward(own, m)
        of_y = H[-1][:, series] if H[-1].shape[1] > 1 else H[-1]
        return PathSlopes(back.slopes(), (of_y * back.w).sum(0) / self.packed.model.unit)

    def _combinations(
        self, pieces: Pieces, v: np.ndarray, precision: float, restricted: bool
    ) -> list[np.ndarray]:
        """The rows of H_i, column by column of [F, T, X, y]: (h, n), or (h, 1) for all alike."""
        L, K, Lambda, p = pieces.L, pieces.K, pieces.Lambda, self.packed.z.shape[0] - 1
        q, n = self.q, self.packed.series
        identity = np.broadcast_to(np.eye(q)[..., None], (q, q, n))
        sides = [math.sqrt(precision) * v[:, None]]
        if restricted:
            inverse = np.linalg.inv(np.linalg.cholesky(pieces.S[:p, :p])).T
            sides.append(np.vstack([inverse, np.zeros((1, p))]))
        z = np.hstack(sides)  # (p + 1, h - q)
        through = backward(L, np.einsum("qpn,ph->qhn", K, z))
        T = np.concatenate([backward(L, identity), -through], axis=1)
        T = np.einsum("qk,khn->qhn", Lambda, T)
        of_z = np.hstack([np.zeros((p + 1, q)), z])
        rest = [*T, *of_z[:, :, None]]
        if not self.f:
            return rest
        L, K, known = self.flat
        own = np.zeros((self.f, rest[0].shape[0], n))
        for column, one in zip(np.moveaxis(K[:, self.f :], 1, 0), rest, strict=True):
            own -= column[:, None] * one
        # a column that is not there has no slope either
        unit = np.broadcast_to(np.eye(self.f)[..., None], (self.f, self.f, n)) * known
        own = backward(L, np.concatenate([own, unit], axis=1)) * known[:, None]
        zero = np.zeros((self.f, 1))
        wide = [
            np.concatenate([one, np.broadcast_to(zero, (self.f, one.shape[1]))]) for one in rest
        ]
        return [*own, *wide]
