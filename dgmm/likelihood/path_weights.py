"""The weights of paths, what they make of the rows, and the way back from slopes in these."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgmm.latent import Chain
from dgmm.likelihood.packed import Packed
from dgmm.model import driven
from dgmm.numerics.kalman import Slopes, System, carried, pulled
from dgmm.parameters import Packing, Theta

__all__ = ["PathSlopes", "PathWeights"]

Pairs = list[tuple[Tensor, np.ndarray]]
"""Something that the weights make, and the slopes in it, rows last."""


class PathSlopes(NamedTuple):
    """Slopes of l row by row."""

    matrices: Slopes
    course: np.ndarray  # (N,) in what inputs make of the predictor


@dataclass(frozen=True)
class PathWeights:
    """Weights by their names in theta, and the chains and forces that they make of the rows."""

    packed: Packed
    weights: Theta
    chains: list[Chain]  # differentiable in the weights
    forces: list[Tensor | None]  # (N, d) likewise, None without inputs

    @classmethod
    def of(cls, packed: Packed, weights: Theta) -> PathWeights:
        """The chains of all rows."""
        held = {name: value.detach().requires_grad_() for name, value in weights.items()}
        return cls(packed, held, packed.chains(held), packed.forces(held))

    def system(self, noise: np.ndarray | None = None) -> System:
        """The matrices of the filter; ``noise`` (N,) in the place of variances 1 / w."""
        return self.packed.joined(self.chains, noise)

    # -- what inputs do --------------------------------------------------------------------------

    @cached_property
    def _steady(self) -> System:
        return self.system()

    @cached_property
    def _means(self) -> np.ndarray:
        """E z, (d, 1, N)."""
        return carried(self._steady, self.packed.additions(self.forces))

    def centred(self, columns: np.ndarray) -> np.ndarray:
        """Right-hand sides (r, N), the last less what inputs make of the outcomes."""
        if not driven(self.packed.model):
            return columns
        found = columns.copy()
        course = np.einsum("an,an->n", self._steady.c, self._means[:, 0])
        found[-1] -= course / self.packed.model.unit
        return found

    # -- backwards -------------------------------------------------------------------------------

    def gradient(self, slopes: PathSlopes) -> Theta:
        """The slopes in the weights."""
        matrices, forces = self._pairs(slopes)
        pairs = [(t, self._gathered(g)) for t, g in matrices if t.requires_grad]
        pairs += [(f, torch.from_numpy(np.ascontiguousarray(g.T))) for f, g in forces]
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
        matrices, forces = self._pairs(slopes)
        series, kinds = self.packed.steps.series, self.packed.kinds

        def moved(x: Tensor) -> tuple[Tensor, ...]:
            weights = own.unpack(x)
            chains = [M for one in self.packed.chains(weights) for M in (one.A, one.B)]
            return (*chains, *(f for f in self.packed.forces(weights) if f is not None))

        x, columns = own.pack(self.weights).detach(), []
        for unit in torch.eye(own.size, dtype=x.dtype):
            rows, along = np.zeros(len(series)), torch.func.jvp(moved, (x,), (unit,))[1]
            for M, (_, slope) in zip(along, matrices, strict=False):
                wide = M.permute(1, 2, 0).numpy()
                wide = wide if kinds is None else wide[..., kinds]
                rows += (wide * slope).sum((0, 1))
            for f, (_, slope) in zip(along[len(matrices) :], forces, strict=True):
                rows += (f.numpy().T * slope).sum(0)
            columns.append(np.bincount(series, rows, self.packed.series))
        return np.stack(columns, axis=1)

    def _gathered(self, slope: np.ndarray) -> Tensor:
        """Slopes (d, d, N) in the matrices of every row as those in the chains, (m, d, d)."""
        kinds = self.packed.kinds
        if kinds is not None:
            sums = [np.bincount(kinds, one) for one in slope.reshape(-1, slope.shape[-1])]
            slope = np.array(sums).reshape(*slope.shape[:2], -1)
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(slope, -1, 0)))

    def _pairs(self, slopes: PathSlopes) -> tuple[Pairs, Pairs]:
        """A and B of every chain with slopes (d, d, N), and forces with slopes (d, N)."""
        found = slopes.matrices
        B = found.backward.forward.system.B
        in_B = 2 * np.einsum("abn,bcn->acn", found.Q, B)
        in_f = through_A = None
        if driven(self.packed.model):
            steps, c = self.packed.steps, self._steady.c
            in_f = pulled(self._steady, (c * slopes.course)[:, None])[:, 0]
            through_A = in_f[:, None] * self._means[:, 0][:, steps.before]
            through_A[..., steps.first] = 0.0
        matrices, forces, first = Pairs(), Pairs(), 0
        for chain, f in zip(self.chains, self.forces, strict=True):
            at = slice(first, first + len(chain.c))
            first = at.stop
            moves = chain.A.requires_grad  # a walk has an A that no weight changes
            in_A = found.A[at, at] if moves else np.zeros_like(in_B[at, at])
            if f is not None and in_f is not None and through_A is not None:
                in_A = in_A + through_A[at, at]
                forces.append((f, in_f[at]))
            matrices += [(chain.A, in_A), (chain.B, in_B[at, at])]
        return matrices, forces
