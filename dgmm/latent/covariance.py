"""Lambda of linear random effects as parameters: its encodings, and the way from each to another.

    D = Lambda Lambda',   Lambda = frame L,   L block diagonal, lower triangular

    entries    the free entries of L, term by term: its diagonal, then what is below it, row by row
    logged     the same with the diagonal logged, as theta and its packing hold it
    relative   entries unit / sigma, in which the profiled Gaussian likelihood is written
    D          covariance matrices, one per term

Standard deviations and partial correlations, the fifth, are :mod:`dgmm.inference.coordinates`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgmm.latent.base import Latent
from dgmm.networks import Weights
from dgmm.parameters import Theta, part

__all__ = [
    "Pattern",
    "covariance_of_parts",
    "free_shapes",
    "loadings",
    "theta_of_covariances",
    "triangular",
    "working_values",
]

LEAST = 1e-10
"""A zero on the diagonal (boundary) is held at a value that adds nothing to any sum."""

SHRUNK = 0.8
"""Of correlations between conditional means of separate fits, at which a joint search begins."""

SMALL = 0.05
"""Standard deviation of an effect there, in its scale, at the least."""


# -- one term ------------------------------------------------------------------------------------


def free_shapes(dim: int, correlated: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights of one term."""
    shapes: dict[str, tuple[int, ...]] = {"log_diagonal": (dim,)}
    if correlated and dim > 1:
        shapes["below"] = (dim * (dim - 1) // 2,)
    return shapes


def loadings(weights: Weights, frame: Tensor) -> Tensor:
    """Lambda (q, q) of one term."""
    L = torch.diag(weights["log_diagonal"].exp())
    if "below" in weights:
        row, column = torch.tril_indices(len(frame), len(frame), -1)
        L = L.index_put((row, column), weights["below"])
    return frame @ L


def triangular(covariance: Tensor, frame: Tensor, correlated: bool) -> Weights:
    """The weights of D; a singular D is met with a floor of 1e-10 on the variances."""
    half = torch.linalg.solve_triangular(frame, covariance, upper=True)
    D, q = torch.linalg.solve_triangular(frame, half.mT, upper=True), len(frame)
    floor = 1e-10 * D.diagonal().max().clamp(min=1e-6)
    L = torch.linalg.cholesky(D + floor * torch.eye(q, dtype=D.dtype))
    weights = {"log_diagonal": L.diagonal().log()}
    if "below" in free_shapes(q, correlated):
        row, column = torch.tril_indices(q, q, -1)
        weights["below"] = L[row, column]
    return weights


# -- all terms of a model ------------------------------------------------------------------------


class _Term(NamedTuple):
    key: str  # "latent1."
    dim: int
    correlated: bool
    latent: Latent

    def free(self, theta: Theta) -> Weights:
        """The weights of the free covariance that holds that of the term."""
        return self.latent.lifted(part(theta, self.key))


@dataclass(frozen=True)
class Pattern:
    """The free entries of the block diagonal L of several terms, in the order of theta.

    Per latent term first its diagonal, then the entries below it row by row.
    """

    row: np.ndarray
    column: np.ndarray
    q: int
    terms: tuple[_Term, ...]

    @classmethod
    def of(cls, latents: Sequence[Latent]) -> Pattern:
        """Read the blocks off the latent terms that are linear by columns; others have none."""
        row: list[int] = []
        column: list[int] = []
        terms: list[_Term] = []
        first = 0
        for i, latent in enumerate(latents, 1):
            if not latent.by_columns:
                continue
            size, correlated = latent.dim, len(latent.wider().blocks()) < latent.dim
            below = [(r, c) for r in range(size) for c in range(r)] if correlated else []
            for r, c in [(j, j) for j in range(size)] + below:
                row.append(first + r)
                column.append(first + c)
            terms.append(_Term(f"latent{i}.", size, correlated, latent))
            first += size
        return cls(np.array(row, dtype=int), np.array(column, dtype=int), first, tuple(terms))

    @property
    def on_diagonal(self) -> np.ndarray:
        """True where a free entry lies on the diagonal."""
        return self.row == self.column

    def fill(self, entries: np.ndarray) -> np.ndarray:
        """L (..., q, q) from its free entries (..., E)."""
        L = np.zeros((*entries.shape[:-1], self.q, self.q))
        L[..., self.row, self.column] = entries
        return L

    def of_theta(self, theta: Theta) -> Tensor:
        """The free entries (E,) of a theta."""
        parts = []
        for term in self.terms:
            weights = term.free(theta)
            parts.append(weights["log_diagonal"].exp())
            if term.correlated:
                parts.append(weights["below"])
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)

    def to_theta(self, entries: np.ndarray) -> Theta:
        """The part of theta with these free entries; columns get a positive diagonal.

        Of a restricted covariance the one near them.
        """
        filled = self.fill(entries)
        L = torch.from_numpy(filled * np.where(np.diag(filled) < 0, -1.0, 1.0))
        theta: Theta = {}
        first = 0
        for term in self.terms:
            block = L[first : first + term.dim, first : first + term.dim]
            weights = {"log_diagonal": block.diagonal().clamp(min=LEAST).log()}
            if term.correlated:
                row, column = torch.tril_indices(term.dim, term.dim, -1)
                weights["below"] = block[row, column]
            if term.latent.wider() is not term.latent:
                half = term.latent.frame @ block
                weights = term.latent.nearest(half @ half.T)
            theta |= {f"{term.key}{name}": value for name, value in weights.items()}
            first += term.dim
        return theta

    def relative(self, theta: Theta, log_sigma: Tensor, unit: float) -> Tensor:
        """The free entries (E,) relative to sigma, unit that of the model."""
        return self.of_theta(theta) * unit * torch.exp(-log_sigma)


def theta_of_covariances(latents: Sequence[Latent], covariances: Sequence[Tensor]) -> Theta:
    """The part of theta with the covariances D (q, q) of terms linear by columns."""
    theta: Theta = {}
    for i, (latent, D) in enumerate(zip(latents, covariances, strict=True), 1):
        theta |= {f"latent{i}.{name}": value for name, value in latent.nearest(D).items()}
    return theta


# -- several outcomes ----------------------------------------------------------------------------


def covariance_of_parts(parts: Mapping[str, tuple[Tensor, Tensor]], scale: Tensor) -> Tensor:
    """D (Q, Q) of the effects of several outcomes, from separate fits of each.

    parts: by outcome D (q, q) of its columns and its conditional means (n, q), missing where a
        subject has none; scale: a sensible size of the standard deviation of every effect, (Q,).
    """
    means = torch.cat([mean for _, mean in parts.values()], dim=1)
    sd = torch.cat([D.diagonal() for D, _ in parts.values()]).sqrt()
    sd = torch.maximum(sd, SMALL * scale)
    seen = (~means.isnan()).all(1)
    correlation = torch.eye(len(sd), dtype=torch.float64)
    if int(seen.sum()) > len(sd):
        spread = means[seen] - means[seen].mean(0)
        size = spread.square().mean(0).sqrt()
        spread = spread / torch.where(size > 1e-6 * scale, size, torch.inf)
        correlation += SHRUNK * (spread.T @ spread / len(spread)).fill_diagonal_(0.0)
    return correlation * sd * sd[:, None]


def working_values(
    pattern: Pattern, L: np.ndarray, frame: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """log SDs, then atanh correlations by rows, (..., R), of one term with a free covariance.

    Their slopes (..., R, E) are those in the logged entries of L: with D = K L L'K' and dD the
    change by an entry, d log sd_j = dD_jj / 2 D_jj and

        d cor_jk = dD_jk / (sd_j sd_k) - cor_jk (dD_jj / D_jj + dD_kk / D_kk) / 2.

    Args:
        pattern: of the term.
        L: (..., q, q).
        frame: K, (..., q, q).
    """
    q, row, column, Lambda = pattern.q, pattern.row, pattern.column, frame @ L
    scale = np.where(pattern.on_diagonal, L[..., row, column], 1.0)
    moved = frame[..., row] * scale[..., None, :]  # of the column that the entry stands in
    half = moved[..., :, None, :] * Lambda[..., None, :, :][..., column]  # (..., q, q, E)
    D, dD = Lambda @ Lambda.mT, half + half.swapaxes(-2, -3)
    on, pairs = np.arange(q), np.array([(j, k) for j in range(q) for k in range(j)] or [(0, 0)])
    pairs = pairs if len(row) > q else pairs[:0]
    j, k = pairs.T
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = D[..., on, on]
        share = 0.5 * dD[..., on, on, :] / variance[..., None]
        sd = np.sqrt(variance)
        both = sd[..., j] * sd[..., k]
        cor = np.clip(D[..., j, k] / both, -1.0, 1.0)
        shares = share[..., j, :] + share[..., k, :]
        turn = dD[..., j, k, :] / both[..., None] - cor[..., None] * shares
        values = np.concatenate([np.log(sd), np.arctanh(cor)], axis=-1)
        slopes = np.concatenate([share, turn / (1 - cor**2)[..., None]], axis=-2)
    return values, np.nan_to_num(slopes)
