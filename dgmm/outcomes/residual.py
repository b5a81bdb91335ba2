"""Residuals of several Gaussian outcomes, correlated where the outcomes were seen on one row.

    (e_1, ..., e_K) ~ N(0, S R S),   S = diag(sigma / sqrt(w)),   R = C C',

of a row on which some outcomes are missing the block of those that were seen. C has rows of length
one: those of a lower triangular matrix with ones on its diagonal and the parameters below it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from dgmm.outcomes.longitudinal import Longitudinal
from dgmm.panel import Block
from dgmm.parameters import Theta

__all__ = ["MOST", "Residual", "Standardised"]

MOST = 8
"""Outcomes whose residuals may be correlated: rows are sorted by which of them were seen."""

KEY = "residual"
"""The parameters in theta."""


class Standardised(NamedTuple):
    """The rows of one outcome in units of its residuals."""

    e: Tensor  # (..., n, J) (y - E(y | b)) sqrt(w) / sigma
    log_scale: Tensor  # (..., n, J) log sigma - log(w) / 2
    block: Block


@dataclass(frozen=True)
class Residual:
    """Which outcomes have correlated residuals, by name."""

    outcomes: tuple[str, ...]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of its parameters."""
        K = len(self.outcomes)
        return {KEY: (K * (K - 1) // 2,)}

    def among(self, outcomes: Sequence[Longitudinal]) -> list[int]:
        """Its outcomes among all of a model."""
        names = [one.name for one in outcomes]
        return [names.index(name) for name in self.outcomes]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Row and column of every correlation."""
        return [(r, c) for r in range(len(self.outcomes)) for c in range(r)]

    def root(self, raw: Tensor) -> Tensor:
        """C (K, K)."""
        K = len(self.outcomes)
        row, column = torch.tril_indices(K, K, -1)
        C = torch.eye(K, dtype=raw.dtype).index_put((row, column), raw)
        return C / C.norm(dim=1, keepdim=True)

    def correlation(self, theta: Theta) -> Tensor:
        """R (K, K)."""
        C = self.root(theta[KEY])
        return C @ C.T

    def raw(self, R: Tensor) -> Tensor:
        """The parameters of a correlation matrix, (K (K - 1) / 2,)."""
        C = torch.linalg.cholesky(R)
        C = C / C.diagonal()[:, None]
        row, column = torch.tril_indices(len(R), len(R), -1)
        return C[row, column]

    # -- by the outcomes that a row has ------------------------------------------------------------

    @cached_property
    def sets(self) -> Tensor:
        """Every set of outcomes that a row may have, (2^K, K) bool; the first outcome is bit 0."""
        every = product((False, True), repeat=len(self.outcomes))
        return torch.tensor([one[::-1] for one in every])

    def numbers(self, seen: Tensor) -> Tensor:
        """The numbers of sets (..., K) bool."""
        return (seen * 2 ** torch.arange(len(self.outcomes))).sum(-1)

    def inverses(self, raw: Tensor, sets: Tensor) -> tuple[Tensor, Tensor]:
        """Of some sets (S, K) the inverse of their block of R, zero elsewhere, and log |block|."""
        C = self.root(raw)
        R, one = C @ C.T, torch.eye(len(self.outcomes), dtype=raw.dtype)
        inside = sets[:, :, None] & sets[:, None]
        block = torch.where(inside, R, one)
        inverse = torch.where(inside, torch.linalg.inv(block), 0.0)
        return inverse, torch.linalg.slogdet(block)[1]

    # -- rows of subjects --------------------------------------------------------------------------

    def log_density(self, theta: Theta, rows: Sequence[Standardised]) -> Tensor:
        """log p(e_i), (..., n), of the outcomes in the order of ``outcomes``."""
        inverse, log_det = self.inverses(theta[KEY], self.sets)
        total: Tensor | None = None
        for found in self._matched([one.block for one in rows]):
            e = torch.stack([_moved(pair, one.e) for pair, one in found.pairs(rows)], -1)
            scale = [_moved(pair, one.log_scale) for pair, one in found.pairs(rows)]
            square = torch.einsum("...njk,njkl,...njl->...nj", e, inverse[found.number], e)
            count = found.seen.sum(-1, dtype=torch.float64)
            constant = log_det[found.number] + math.log(2 * math.pi) * count
            value = -0.5 * (square + constant) - torch.stack(scale, -1).sum(-1)
            value = torch.where(found.leads, value, 0.0).sum(-1)
            total = value if total is None else total + value
        assert total is not None
        return total

    def precision(self, theta: Theta, rows: Sequence[Standardised], J: Sequence[Tensor]) -> Tensor:
        """sum of J'(S R S)^-1 J over the rows, (..., n, k, k), J (..., n, J, k) per outcome."""
        inverse, _ = self.inverses(theta[KEY], self.sets)
        total: Tensor | None = None
        slopes = [
            own * torch.exp(-one.log_scale)[..., None] for own, one in zip(J, rows, strict=True)
        ]
        for found in self._matched([one.block for one in rows]):
            pairs = zip(found.gather, slopes, strict=True)
            own = torch.stack(
                [torch.einsum("nij,...njq->...niq", pair, slope) for pair, slope in pairs], -2
            )
            weight = torch.where(found.leads[..., None, None], inverse[found.number], 0.0)
            value = torch.einsum("...njkq,njkl,...njls->...nqs", own, weight, own)
            total = value if total is None else total + value
        assert total is not None
        return total

    def _matched(self, blocks: Sequence[Block]) -> list[_Matched]:
        """The rows of every outcome, with those of the others on the same row."""
        found = []
        for k, one in enumerate(blocks):
            gather = [
                (one.rows.occasion[:, :, None] == other.rows.occasion[:, None])
                & one.mask[:, :, None]
                & other.mask[:, None]
                for other in blocks
            ]
            # a padded row repeats a real one, and is masked
            seen = torch.stack([pair.any(-1) for pair in gather], -1)
            leads = one.mask & ~seen[..., :k].any(-1)
            dense = [pair.to(torch.float64) for pair in gather]
            found.append(_Matched(dense, seen, self.numbers(seen), leads))
        return found

    # -- draws -------------------------------------------------------------------------------------

    def drawn(self, theta: Theta, e: Tensor, known: Tensor, generator: torch.Generator) -> Tensor:
        """Standardised residuals (N, K) of rows, with draws given the ``known`` ones elsewhere."""
        R, K = self.correlation(theta).detach(), len(self.outcomes)
        noise = torch.randn(e.shape, generator=generator, dtype=torch.float64)
        out = torch.where(known, e, 0.0)
        for number, seen in enumerate(self.sets):
            at = torch.nonzero(self.numbers(known) == number)[:, 0]
            if not len(at) or bool(seen.all()):
                continue
            own, given = torch.nonzero(~seen)[:, 0], torch.nonzero(seen)[:, 0]
            gain = torch.linalg.solve(R[given][:, given], R[given][:, own]).T
            left = torch.linalg.cholesky(R[own][:, own] - gain @ R[given][:, own])
            drawn = out[at][:, given] @ gain.T + noise[at][:, : K - len(given)] @ left.T
            out[at[:, None], own] = drawn
        return out


class _Matched(NamedTuple):
    """The rows of one outcome (n, J) and their partners."""

    gather: list[Tensor]  # per outcome (n, J, J_l), one where both are the same row
    seen: Tensor  # (n, J, K) bool
    number: Tensor  # (n, J) of the set seen
    leads: Tensor  # (n, J) bool: no earlier outcome is on the row, which counts here

    def pairs(self, rows: Sequence[Standardised]) -> list[tuple[Tensor, Standardised]]:
        return list(zip(self.gather, rows, strict=True))


def _moved(pair: Tensor, values: Tensor) -> Tensor:
    """Values (..., n, J_l) at the rows of another outcome, (..., n, J), zero without a partner."""
    return torch.einsum("nij,...nj->...ni", pair, values)
