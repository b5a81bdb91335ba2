"""Linear random effects: mu2 = T Lambda b, D = Lambda Lambda'."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgmm.design import LatentBlock
from dgmm.latent.base import Latent
from dgmm.networks import Weights

__all__ = ["Normal", "column_scale"]


def column_scale(T: Tensor, unit: float) -> Tensor:
    """unit / root mean square of each column, (q,)."""
    root = T.square().mean(0).sqrt()
    return unit / torch.where(root > 0, root, torch.ones_like(root))


@dataclass(frozen=True)
class Normal(Latent):
    """Lambda = diag(scale) L, L lower triangular with exp(.) on its diagonal.

    ``diagonal`` leaves only the diagonal (the ``||`` of a formula).
    """

    label: str
    names: tuple[str, ...]
    scale: Tensor
    diagonal: bool

    name = "normal"
    linear = True

    @classmethod
    def build(cls, block: LatentBlock, unit: float) -> Normal:
        T = torch.from_numpy(block.columns.matrix)
        diagonal = block.term.covariance == "diagonal"
        return cls(block.term.text, block.columns.names, column_scale(T, unit), diagonal)

    @property
    def dim(self) -> int:  # type: ignore[override]
        """k, the number of columns of T."""
        return len(self.names)

    def layers(self) -> str:
        return ""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        k = self.dim
        shapes: dict[str, tuple[int, ...]] = {"log_diagonal": (k,)}
        if not self.diagonal and k > 1:
            shapes["below"] = (k * (k - 1) // 2,)
        return shapes

    def initial(self, generator: torch.Generator) -> Weights:
        weights = {"log_diagonal": torch.full((self.dim,), -0.7, dtype=torch.float64)}
        if "below" in self.shapes():
            weights["below"] = torch.zeros(self.shapes()["below"], dtype=torch.float64)
        return weights

    def tied(self, covariance: Tensor, gram: Tensor, generator: torch.Generator) -> Weights:
        return self.from_covariance(covariance)

    def from_covariance(self, covariance: Tensor) -> Weights:
        """Raw parameters of D; a singular D is met with a floor of 1e-10 on the variances."""
        D = covariance / self.scale[:, None] / self.scale
        floor = 1e-10 * D.diagonal().max().clamp(min=1e-6)
        L = torch.linalg.cholesky(D + floor * torch.eye(self.dim, dtype=D.dtype))
        weights = {"log_diagonal": L.diagonal().log()}
        if "below" in self.shapes():
            row, column = torch.tril_indices(self.dim, self.dim, -1)
            weights["below"] = L[row, column]
        return weights

    def prepare(self, weights: Weights) -> Weights:
        return {}

    def skip(self, weights: Weights) -> Tensor:
        L = torch.diag(weights["log_diagonal"].exp())
        if "below" in weights:
            row, column = torch.tril_indices(self.dim, self.dim, -1)
            L = L.index_put((row, column), weights["below"])
        return self.scale[:, None] * L

    def effect(self, weights: Weights, b: Tensor, T: Tensor, basis: Tensor) -> Tensor:
        return torch.einsum("njq,...nq->...nj", T, b @ self.skip(weights).T)

    def slope(self, weights: Weights, b: Tensor, T: Tensor, basis: Tensor) -> Tensor:
        return T @ self.skip(weights)
