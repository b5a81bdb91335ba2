"""The weights of paths, the matrices that they make, and the way back from slopes in these."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dgmm.latent import Chain
from dgmm.likelihood.packed import Packed
from dgmm.numerics.kalman import Slopes, System
from dgmm.parameters import Packing, Theta

__all__ = ["PathWeights"]


@dataclass(frozen=True)
class PathWeights:
    """Weights by their names in theta, and the chains that they make of the packed rows."""

    packed: Packed
    weights: Theta
    chains: list[Chain]  # differentiable in the weights

    @classmethod
    def of(cls, packed: Packed, weights: Theta) -> PathWeights:
        """The chains of all rows."""
        held = {name: value.detach().requires_grad_() for name, value in weights.items()}
        return cls(packed, held, packed.chains(held))

    def system(self, noise: np.ndarray | None = None) -> System:
        """The matrices of the filter; ``noise`` (N,) in the place of variances 1 / w."""
        return self.packed.joined(self.chains, noise)

    def gradient(self, slopes: Slopes) -> Theta:
        """The slopes in the weights."""
        pairs = [(t, g) for t, g in self._pairs(slopes) if t.requires_grad]
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

    def scores(self, slopes: Slopes) -> np.ndarray:
        """Those of every series, (n, P) in the order of the weights."""
        own = Packing({name: tuple(value.shape) for name, value in self.weights.items()})
        pairs, series = self._pairs(slopes), self.packed.steps.series

        def moved(x: Tensor) -> tuple[Tensor, ...]:
            chains = self.packed.chains(own.unpack(x))
            return tuple(M for chain in chains for M in (chain.A, chain.B))

        x, columns = own.pack(self.weights).detach(), []
        for unit in torch.eye(own.size, dtype=x.dtype):
            along = torch.func.jvp(moved, (x,), (unit,))[1]
            terms = [(M * s).sum((-2, -1)) for M, (_, s) in zip(along, pairs, strict=True)]
            rows = torch.stack(terms).sum(0).numpy()
            columns.append(np.bincount(series, rows, self.packed.series))
        return np.stack(columns, axis=1)

    def _pairs(self, slopes: Slopes) -> list[tuple[Tensor, Tensor]]:
        """A and B of every chain with the slopes in them, (N, d, d)."""
        B = slopes.backward.forward.system.B
        in_B = 2 * np.einsum("abn,bcn->acn", slopes.Q, B)
        pairs, first = [], 0
        for chain in self.chains:
            at = slice(first, first + len(chain.c))
            first = at.stop
            for matrix, slope in ((chain.A, slopes.A), (chain.B, in_B)):
                own = torch.from_numpy(np.ascontiguousarray(np.moveaxis(slope[at, at], -1, 0)))
                pairs.append((matrix, own))
        return pairs
