"""Linear random effects: mu2 = T Lambda b, D = Lambda Lambda'."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dgmm.design import LatentBlock
from dgmm.families.links import ATANH, LINKS
from dgmm.latent.base import BOUNDARY, Boundary, Component, Latent
from dgmm.latent.covariance import free_shapes, loadings, triangular
from dgmm.networks import Weights
from dgmm.numerics.bases import orthonormal
from dgmm.numerics.triangle import triangle
from dgmm.panel import LatentRows

__all__ = ["Normal"]

DEPENDENT = 1e-13
"""Share of a column of T outside the span of those before it, below which there is none."""

DETERMINED = 1e-7
"""Share of an effect that those before do not determine, below which it is rounding."""


def orthogonal(R: Tensor) -> Tensor:
    """K (q, q), upper triangular: the columns of T K are orthonormal, for T = QR with any Q.

    Columns that depend linearly on others are scaled to length one instead, all of them.
    """
    size = R.square().sum(0).sqrt()
    if bool((R.diagonal().abs() <= DEPENDENT * size).any()):
        return torch.diag(1 / torch.where(size > 0, size, torch.ones_like(size)))
    K = orthonormal(R)
    return K * K.diagonal().sign()


@dataclass(frozen=True)
class Normal(Latent):
    """Lambda = frame L, L lower triangular with exp(.) on its diagonal.

    ``diagonal`` leaves only the diagonal (the ``||`` of a formula): of L and of the frame.
    """

    label: str
    names: tuple[str, ...]
    frame: Tensor
    diagonal: bool

    name = "normal"
    linear = True
    by_columns = True

    @classmethod
    def build(cls, block: LatentBlock, unit: float) -> Normal:
        T = torch.from_numpy(block.columns.matrix)
        diagonal = block.term.covariance == "diagonal"
        frame = unit * math.sqrt(len(T)) * _frame(_triangle(T), diagonal)
        if bool((T[:, 0] == 1).all()):
            frame[0, 0] = unit  # without rounding: engines spare products with ones
        return cls(block.term.text, block.columns.names, frame, diagonal)

    @property
    def dim(self) -> int:  # type: ignore[override]
        """k, the number of columns of T."""
        return len(self.names)

    def layers(self) -> str:
        return ""

    # -- parameters --------------------------------------------------------------------------

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return free_shapes(self.dim, not self.diagonal)

    def initial(self, generator: torch.Generator) -> Weights:
        weights = {"log_diagonal": torch.full((self.dim,), -0.7, dtype=torch.float64)}
        if "below" in self.shapes():
            weights["below"] = torch.zeros(self.shapes()["below"], dtype=torch.float64)
        return weights

    def from_covariance(
        self, covariance: Tensor, gram: Tensor, generator: torch.Generator
    ) -> Weights:
        return triangular(covariance, self.frame, not self.diagonal)

    def times(self, weights: Weights, factor: Tensor) -> Weights:
        below = {name: weights[name] * factor for name in ("below",) if name in weights}
        return {"log_diagonal": weights["log_diagonal"] + factor.log(), **below}

    # -- mu2 ---------------------------------------------------------------------------------

    def prepare(self, weights: Weights) -> Weights:
        return {}

    def loadings(self, weights: Weights) -> Tensor:
        return loadings(weights, self.frame)

    def effect(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        return torch.einsum("njq,...nq->...nj", rows.T, b @ self.loadings(weights).T)

    def jacobian(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        return rows.T @ self.loadings(weights)

    # -- what is reported --------------------------------------------------------------------

    def components(self) -> tuple[Component, ...]:
        deviations = [Component("sd", (name,), LINKS["log"]) for name in self.names]
        pairs = [(self.names[c], self.names[r]) for r, c in self._pairs()]
        return (*deviations, *(Component("cor", pair, ATANH) for pair in pairs))

    def reported(self, weights: Weights) -> Tensor:
        Lambda = self.loadings(weights)
        D = Lambda @ Lambda.mT
        sd = D.diagonal().sqrt()
        if not self._pairs():
            return sd
        correlation = D / sd[:, None] / sd
        return torch.cat([sd, torch.stack([correlation[r, c] for r, c in self._pairs()])])

    def _pairs(self) -> list[tuple[int, int]]:
        """Row and column of every correlation."""
        if len(self.blocks()) == self.dim:
            return []
        return [(r, c) for r in range(self.dim) for c in range(r)]

    def at_boundary(self, weights: Weights, floor: float) -> Boundary:
        diagonal = weights["log_diagonal"].exp()
        least = max(BOUNDARY * float(diagonal.max()), floor)
        zero = diagonal < least
        held = {"log_diagonal": zero}
        if "below" in weights:
            row, column = torch.tril_indices(self.dim, self.dim, -1)
            # below a zero an entry turns into the diagonal of its row, or is itself zero
            held["below"] = zero[column] & (~zero[row] | (weights["below"].abs() < BOUNDARY))
        if not bool(zero.any()):
            return Boundary((), held)
        silent = torch.where(zero, -torch.inf, weights["log_diagonal"])
        Lambda = self.loadings({**weights, "log_diagonal": silent})
        found = _singular(Lambda, Lambda.norm(dim=1) < least * self.scale, self.names)
        return Boundary(tuple(found), held, tuple(found.values()))

    def blocks(self) -> tuple[tuple[int, ...], ...]:
        every = range(self.dim)
        return tuple((j,) for j in every) if self.diagonal else (tuple(every),)

    def without(self, effect: int) -> tuple[Latent, tuple[int, ...]] | None:
        kept = tuple(j for j in range(self.dim) if j != effect)
        if not kept:
            return None
        names = tuple(self.names[j] for j in kept)
        columns = torch.linalg.inv(self.frame)[:, list(kept)]  # of T, seen from those of T frame
        return replace(self, names=names, frame=_frame(_triangle(columns), self.diagonal)), kept


def _singular(Lambda: Tensor, silent: Tensor, names: tuple[str, ...]) -> dict[str, str]:
    """Why D = Lambda Lambda' is singular: the effects that those before determine, and how.

    silent: the effects without variance, (q,). Effects are taken as the formula has them, and not
    as the orthonormal columns, of which another one may be without a length of its own.
    """
    sd = Lambda.norm(dim=1)
    kept: list[int] = []
    found: dict[str, str] = {}
    for j, name in enumerate(names):
        if silent[j]:
            found[name] = f"the variance of `{name}` is estimated as zero"
            continue
        before = (Lambda[kept] / sd[kept, None]).T
        own = Lambda[j] / sd[j]
        weight = torch.linalg.lstsq(before, own[:, None], driver="gelsd").solution[:, 0]
        if float((own - before @ weight).norm()) > DETERMINED:
            kept.append(j)
            continue
        from_ = [i for i, w in zip(kept, weight, strict=True) if abs(w) > DETERMINED]
        listed = ", ".join(f"`{names[i]}`" for i in from_)
        if len(from_) > 1:
            found[name] = (
                f"`{name}` (standard deviation {sd[j]:.3g}) is estimated as a linear combination "
                f"of {listed}"
            )
            continue
        sign = "1" if Lambda[from_[0]] @ Lambda[j] > 0 else "-1"
        found[name] = (
            f"the correlation of {listed} and `{name}` is estimated as {sign} (standard deviations "
            f"{sd[from_[0]]:.3g} and {sd[j]:.3g})"
        )
    return found


def _triangle(T: Tensor) -> Tensor:
    """R (q, q) of T = QR, with rows of zeros where T has fewer than q."""
    R = torch.from_numpy(triangle(T.numpy()))
    return torch.nn.functional.pad(R, (0, 0, 0, T.shape[1] - len(R)))


def _frame(R: Tensor, diagonal: bool) -> Tensor:
    """K of :func:`orthogonal` from the triangle of T = QR; without correlations its scale alone."""
    return orthogonal(torch.diag(R.square().sum(0).sqrt()) if diagonal else R)
