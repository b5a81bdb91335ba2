"""Any covariance: `us(1 + x | id)`, which is `(1 + x | id)`."""

from __future__ import annotations

import torch
from torch import Tensor

from dgmm.families.links import ATANH, LINKS
from dgmm.latent.covariance import free_shapes, loadings, triangular
from dgmm.latent.records import BOUNDARY, Boundary, Component
from dgmm.latent.structures.base import Structure, orthogonal
from dgmm.networks import Weights

__all__ = ["Unstructured"]

DETERMINED = 1e-7
"""Share of an effect that those before do not determine, below which it is rounding."""


class Unstructured(Structure):
    """L lower triangular with exp(.) on its diagonal: variances and covariances are free."""

    name = "us"

    @property
    def free(self) -> bool:
        return True

    def frame(self, R: Tensor) -> Tensor:
        return orthogonal(R)

    @property
    def correlated(self) -> bool:
        """There are entries below the diagonal."""
        return self.dim > 1

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return free_shapes(self.dim, self.correlated)

    def initial(self) -> Weights:
        weights = {"log_diagonal": torch.full((self.dim,), -0.7, dtype=torch.float64)}
        if self.correlated:
            weights["below"] = torch.zeros(self.shapes()["below"], dtype=torch.float64)
        return weights

    def factor(self, weights: Weights) -> Tensor:
        one = torch.eye(self.dim, dtype=weights["log_diagonal"].dtype)
        return loadings(weights, one.to(weights["log_diagonal"].device))

    def nearest(self, D: Tensor) -> Weights:
        return triangular(D, torch.eye(self.dim, dtype=D.dtype), self.correlated)

    def components(self, names: tuple[str, ...]) -> tuple[Component, ...]:
        deviations = [Component("sd", (name,), LINKS["log"]) for name in names]
        pairs = [(names[c], names[r]) for r, c in self._pairs()]
        return (*deviations, *(Component("cor", pair, ATANH) for pair in pairs))

    def reported(self, weights: Weights, frame: Tensor) -> Tensor:
        Lambda = loadings(weights, frame)
        D = Lambda @ Lambda.mT
        sd = D.diagonal().sqrt()
        if not self._pairs():
            return sd
        correlation = D / sd[:, None] / sd
        return torch.cat([sd, torch.stack([correlation[r, c] for r, c in self._pairs()])])

    def _pairs(self) -> list[tuple[int, int]]:
        """Row and column of every correlation."""
        return [(r, c) for r in range(self.dim) for c in range(r)] if self.correlated else []

    def at_boundary(
        self, weights: Weights, floor: float, frame: Tensor, names: tuple[str, ...]
    ) -> Boundary:
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
        Lambda = loadings({**weights, "log_diagonal": silent}, frame)
        scale = frame.square().sum(1).sqrt()
        found = _singular(Lambda, Lambda.norm(dim=1) < least * scale, names)
        return Boundary(tuple(found), held, tuple(found.values()))

    def blocks(self) -> tuple[tuple[int, ...], ...]:
        return (tuple(range(self.dim)),)

    def holds(self, other: Structure) -> bool:
        return True


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
