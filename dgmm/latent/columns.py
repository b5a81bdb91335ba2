"""Structures that are linear in b by the columns of their rows: mu2 = T Lambda b."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dgmm.latent.base import Latent
from dgmm.latent.covariance import covariance_of_parts
from dgmm.latent.records import columns_of
from dgmm.networks import Weights
from dgmm.panel import LatentRows

__all__ = ["ByColumns"]


class ByColumns(Latent):
    """The duties of a word are ``loadings`` and ``nearest``."""

    linear = True
    columnwise = True

    def from_covariance(
        self, covariance: Tensor, gram: Tensor, generator: torch.Generator
    ) -> Weights:
        return self.nearest(covariance)

    def from_parts(self, parts: Mapping[str, tuple[Tensor, Tensor]]) -> Weights:
        return self.nearest(covariance_of_parts(parts, self.scale))

    def prepare(self, weights: Weights) -> Weights:
        return {}

    def loadings_in(self, weights: Weights, outcome: str) -> Tensor:
        return self.loadings(weights)[columns_of(self.places, outcome)]

    def effect(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        Lambda = self.loadings_in(weights, rows.outcome)
        return torch.einsum("njq,...nq->...nj", rows.T, b @ Lambda.T)

    def as_columns(
        self, weights: Weights, b: Tensor, rows: LatentRows
    ) -> tuple[Tensor, Tensor] | None:
        return rows.T, b @ self.loadings_in(weights, rows.outcome).T

    def jacobian(self, weights: Weights, b: Tensor, rows: LatentRows) -> Tensor:
        return rows.T @ self.loadings_in(weights, rows.outcome)
