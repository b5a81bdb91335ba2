"""Encoder `sites`: every observed row contributes a Gaussian site to q(b | y)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dgmm.encoders.base import (
    Context,
    Encoder,
    Posterior,
    from_natural,
    pearson,
    random_skeleton,
    skeleton,
    skeleton_shapes,
)
from dgmm.networks import Dense, Weights
from dgmm.parameters import part

__all__ = ["Sites"]


@dataclass(frozen=True)
class Sites(Encoder):
    """The skeleton with learned corrections per row and of the mean,

        u_ij = sqrt(w_ij) {e^c_1 T_ij W + f(T_ij, r_ij, x_ij)},   P_i = I + sum_j u_ij u_ij',
        h_i  = sum_j {e^c_2 w_ij r_ij T_ij W + sqrt(w_ij) f2(T_ij, r_ij, x_ij)},
        m_i  = P_i^-1 h_i + f3(P_i^-1 h_i, share observed).

    Sums over rows: any number of visits at any times, permutation invariant, no imputation.
    Contains the exact posterior when the decoder is linear Gaussian.
    """

    hidden: int = 32

    name = "sites"

    @property
    def site(self) -> Dense:
        """f and f2 in one network: row -> (u, h) corrections."""
        return Dense((self.q + 1 + self.c, self.hidden, 2 * self.k))

    @property
    def correction(self) -> Dense:
        """f3: (P^-1 h, share observed) -> mean correction."""
        return Dense((self.k + 1, self.hidden, self.k))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {
            **skeleton_shapes(self.q, self.k),
            **{f"site.{name}": s for name, s in self.site.shapes().items()},
            **{f"correction.{name}": s for name, s in self.correction.shapes().items()},
        }

    def initial(self, generator: torch.Generator) -> Weights:
        site = self.site.initial(generator, last=0.01)
        correction = self.correction.initial(generator, last=0.01)
        return {
            **random_skeleton(self.q, self.k, generator),
            **{f"site.{name}": w for name, w in site.items()},
            **{f"correction.{name}": w for name, w in correction.items()},
        }

    def __call__(self, phi: Weights, seen: Context) -> Posterior:
        u, h = skeleton(phi, seen)
        rows = torch.cat([seen.T, pearson(seen), seen.covariates], dim=-1)
        extra = torch.where(seen.mask[..., None], self.site(part(phi, "site."), rows), 0.0)
        # a site is informative in proportion to the root of its weight
        u = u + seen.weight.sqrt()[..., None] * extra[..., : self.k]
        h = h + seen.weight.sqrt()[..., None] * extra[..., self.k :]
        identity = torch.eye(self.k, dtype=u.dtype)
        mean, root, log_det = from_natural(identity + u.mT @ u, h.sum(1), self.diagonal)
        share = seen.mask.to(u.dtype).sum(1, keepdim=True) / self.J
        bounded = 4 * torch.tanh(mean / 4)
        mean = mean + self.correction(part(phi, "correction."), torch.cat([bounded, share], -1))
        return Posterior(mean, root, log_det)
