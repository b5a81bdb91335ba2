"""Generalized Poisson family: overdispersed counts by a branching process."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from dgmm.families.base import Extra, Family, Observations
from dgmm.families.naming import find
from dgmm.families.poisson import read_counts

__all__ = ["GeneralizedPoisson"]


class GeneralizedPoisson(Family):
    """log p = log mu + (y-1) log(mu + a y) - y log(1 + a) - (mu + a y) / (1 + a) - log y!.

    var(y) = mu (1 + a)^2 with a (alpha) above 0, so overdispersed counts only: theta = mu / (1 + a)
    and lambda = a / (1 + a) in the notation of Consul and Famoye.

    References:
        Consul and Famoye (1992), Communications in Statistics - Theory and Methods 21, 89-109.
    """

    name = "generalized_poisson"
    links = ("log", "identity", "sqrt")
    extra = ("log_alpha",)
    support = "counts"
    dispersion = "log_alpha"

    def read(
        self, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return read_counts(self, y, trials, weights)

    def log_density(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        y, log_mean = data.y, self.link.log_mean(eta)
        count = torch.where(y > 0, y, torch.ones_like(y))
        log_rest = extra[0] + torch.log(count)
        log_total = log_rest + softplus(log_mean - log_rest, threshold=40.0)  # log(mu + alpha y)
        log_one = softplus(extra[0], threshold=40.0)  # log(1 + alpha)
        positive = log_mean + (count - 1) * log_total - count * log_one - torch.lgamma(count + 1)
        initial = torch.exp(log_mean - log_one) + y * torch.sigmoid(extra[0])
        return data.weights * (torch.where(y > 0, positive, torch.zeros_like(positive)) - initial)

    def edges(self) -> tuple[tuple[str, Family], ...]:
        return (("log_alpha", find("poisson", self.link.name)),)

    def variance(self, eta: Tensor, data: Observations, extra: Extra) -> Tensor:
        return self.link.inverse(eta) * (1 + torch.exp(extra[0])).square() / data.weights

    def simulate(
        self, eta: Tensor, data: Observations, extra: Extra, generator: torch.Generator
    ) -> Tensor:
        # the total progeny of a Poisson(theta) number of ancestors, Poisson(lambda) children each
        fresh = torch.poisson(
            self.link.inverse(eta) * torch.sigmoid(-extra[0]), generator=generator
        )
        total = fresh
        while bool((fresh > 0).any()):
            fresh = torch.poisson(fresh * torch.sigmoid(extra[0]), generator=generator)
            total = total + fresh
        return total

    def start_extra(self, data: Observations, mu: Tensor) -> Tensor:
        over = ((data.y - mu).square() / mu).mean().sqrt() - 1
        most = max(10.0, float(data.y.median()) ** 0.5)  # large counts may vary more
        return torch.log(over.clamp(0.05, most)).reshape(1)

    def start_mean(self, data: Observations) -> Tensor:
        return data.y + 0.1
