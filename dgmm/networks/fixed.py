"""Networks of covariates: the nonlinear terms of the fixed part."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgmm.networks.dense import Dense, Weights

__all__ = ["FixedNetwork", "Reference", "new_directions"]


@dataclass(frozen=True)
class Reference:
    """The sample over which fixed networks are centred and made orthogonal to linear columns."""

    X: Tensor  # (R, p)
    inputs: tuple[Tensor, ...]  # (R, r) each


@dataclass(frozen=True)
class FixedNetwork:
    """One dnn() term: f(x) - C gamma, gamma the least-squares coefficients of f on C,

        f(x) = unit (skip'z + network(z)),   z = (x - centre) / spread.

    C holds the constant and the linear columns that depend on the network's own variables only, so
    the linear coefficients keep all that is linear in those variables. The skip (inputs that C does
    not span already) nests the linear model in x; it carries no ridge.
    """

    label: str
    names: tuple[str, ...]  # columns of its inputs
    network: Dense
    centre: Tensor  # (r,) means of the inputs
    spread: Tensor  # (r,) standard deviations
    shared: tuple[int, ...]  # columns of X to be orthogonal to
    linear: tuple[int, ...]  # inputs with a skip
    unit: float  # output scale
    ridge: float

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the weights."""
        return {"skip": (len(self.linear),), **self.network.shapes()}

    def standardise(self, inputs: Tensor) -> Tensor:
        """z = (x - centre) / spread."""
        return (inputs - self.centre) / self.spread

    def raw(self, weights: Weights, inputs: Tensor) -> Tensor:
        """f before it is centred, (...)."""
        z = self.standardise(inputs)
        curved = self.network(weights, z)[..., 0]
        return self.unit * (curved + z[..., list(self.linear)] @ weights["skip"])

    def columns(self, X: Tensor) -> Tensor:
        """C: the constant and the shared linear columns."""
        return torch.cat([torch.ones_like(X[..., :1]), X[..., list(self.shared)]], dim=-1)


def new_directions(spanned: Tensor, columns: Tensor) -> tuple[int, ...]:
    """Columns that are not in the span of ``spanned`` and the columns before them."""
    kept: list[int] = []
    for j in range(columns.shape[1]):
        basis, _ = torch.linalg.qr(torch.cat([spanned, columns[:, kept]], dim=1))
        rest = columns[:, j] - basis @ (basis.T @ columns[:, j])
        if rest.norm() > 1e-6 * columns[:, j].norm():
            kept.append(j)
    return tuple(kept)
