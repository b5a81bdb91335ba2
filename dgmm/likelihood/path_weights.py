"""The weights of paths, what they make of the rows, and the way back from slopes in these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgmm.latent import Chain
from dgmm.likelihood.packed import Packed
from dgmm.numerics.kalman import Slopes, System
from dgmm.parameters import Packing, Theta

__all__ = ["PathSlopes", "PathWeights"]


class PathSlopes(NamedTuple):
    """Slopes of l row by row."""

    matrices: Slopes
    course: np.ndarray  # (N,) in what inputs add


@dataclass(frozen=True)
class PathWeights:
    """Weights by their names in theta, and the chains and means that they make of the rows."""

    packed: Packed
    weights: Theta
    chains: list[Chain]  # differentiable in the weights
    course: Tensor | None  # (N,) likewise, None without inputs

    @classmethod
    def of(cls, packed: Packed, weights: Theta) -> PathWeights:
        """The chains of all rows."""
        held = {name: value.detach().requires_grad_() for name, value in weights.items()}
        driven = packed.model.driven
        return cls(packed, held, packed.chains(held), packed.course(held) if driven else None)

    def system(self, noise: np.ndarray | None = None) -> System:
        """The matrices of the filter; ``noise`` (N,) in the place of variances 1 / w."""
        return self.packed.joined(self.chains, noise)

    def centred(self, columns: np.ndarray) -> np.ndarray:
        """Right-hand sides (r, N), the last less what inputs add to the outcomes."""
        if self.course is None:
            return columns
        found = columns.copy()
        found[-1] -= self.course.detach().numpy() / self.packed.model.unit
        return found

    def gradient(self, slopes: PathSlopes) -> Theta:
        """The slopes in the weights."""
        matrices = self._pairs(slopes.matrices)
        pairs = [(t, self._gathered(g)) for t, g in matrices if t.requires_grad]
        if self.course is not None:
            pairs.append((self.course, torch.from_numpy(slopes.course)))
        found = torch.autograd.grad(
            [t for t, _ in pairs],
            list(self.weights.values()),
            [g for _, g in pairs],
            retain_graph=True,
            allow_unused=True,
        )
        return {
            name: torch.zeros_like(value) if slope is None else slope
            for (name, value), slope in zip(self.weights.items(), found, strict=True)
        }

    def scores(self, slopes: PathSlopes) -> np.ndarray:
        """Those of every series, (n, P) in the order of the weights."""
        own = Packing({name: tuple(value.shape) for name, value in self.weights.items()})
        slope_of = [slope for _, slope in self._pairs(slopes.matrices)]
        series, kinds = self.packed.steps.series, self.packed.kinds

        def moved(x: Tensor) -> tuple[Tensor, ...]:
            chains = self.packed.chains(own.unpack(x))
            matrices = tuple(M for chain in chains for M in (chain.A, chain.B))
            return (
                matrices if self.course is None else (*matrices, self.packed.course(own.unpack(x)))
            )

        x, columns = own.pack(self.weights).detach(), []
        for unit in torch.eye(own.size, dtype=x.dtype):
            rows = np.zeros(len(series))
            along_unit = torch.func.jvp(moved, (x,), (unit,))[1]
            if self.course is not None:
                *along_unit, response = along_unit
                rows += response.numpy() * slopes.course
            for M, slope in zip(along_unit, slope_of, strict=True):
                along = M.permute(1, 2, 0).numpy()
                along = along if kinds is None else along[..., kinds]
                rows += (along * slope).sum((0, 1))
            columns.append(np.bincount(series, rows, self.packed.series))
        return np.stack(columns, axis=1)

    def _gathered(self, slope: np.ndarray) -> Tensor:
        """Slopes (d, d, N) in the matrices of every row as those in the chains, (m, d, d)."""
        kinds = self.packed.kinds
        if kinds is not None:
            sums = [np.bincount(kinds, one) for one in slope.reshape(-1, slope.shape[-1])]
            slope = np.array(sums).reshape(*slope.shape[:2], -1)
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(slope, -1, 0)))

    def _pairs(self, slopes: Slopes) -> list[tuple[Tensor, np.ndarray]]:
        """A and B of every chain with the slopes in them, (d, d, N)."""
        B = slopes.backward.forward.system.B
        in_B = 2 * np.einsum("abn,bcn->acn", slopes.Q, B)
        pairs: list[tuple[Tensor, np.ndarray]] = []
        first = 0
        for chain in self.chains:
            at = slice(first, first + len(chain.c))
            first = at.stop
            moves = chain.A.requires_grad  # a walk has an A that no weight changes
            in_A = slopes.A[at, at] if moves else np.zeros_like(in_B[at, at])
            pairs += [(chain.A, in_A), (chain.B, in_B[at, at])]
        return pairs
