"""Bernoulli family: y in {0, 1} with probability g^-1(eta)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dgmm.families.base import Extra, Family, Observations
from dgmm.families.links import Link

__all__ = ["Bernoulli", "log_odds_terms"]


def log_odds_terms(link: Link, y: Tensor, failures: Tensor, eta: Tensor) -> Tensor:
    """y log mu + failures log(1 - mu) from log-probabilities that stay finite."""
    assert link.log_complement is not None
    return y * link.log_mean(eta) + failures * link.log_complement(eta)


class Bernoulli(Family):
    """log p = y log mu + (1 - y) log(1 - mu)."""

    name = "bernoulli"
    links = ("logit", "probit", "cloglog")
    threshold = True

    def read(
        self, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        bad = y[~np.isin(y, (0.0, 1.0))]
        if bad.size or np.any(trials != 1):
            example = f"for example {bad[0]:g}" if bad.size else "a two-column response"
            raise ValueError(
                f"family 'bernoulli' needs outcomes 0 and 1, found {example}. "
                "For successes out of trials use family='binomial' with cbind(success, failure)."
            )
        return y, trials, weights

    def log_density(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        return data.weights * log_odds_terms(self.link, data.y, 1 - data.y, eta)

    def variance(self, mu: Tensor, data: Observations, extra: Extra) -> Tensor:
        return (mu * (1 - mu)).clamp(min=1e-12) / data.weights

    def simulate(
        self, eta: Tensor, data: Observations, extra: Extra, generator: torch.Generator
    ) -> Tensor:
        return torch.bernoulli(self.mean(eta), generator=generator)

    def start_extra(self, data: Observations, mu: Tensor) -> Tensor:
        return torch.zeros(0, dtype=mu.dtype)

    def start_mean(self, data: Observations) -> Tensor:
        return (data.y + 0.5) / 2
