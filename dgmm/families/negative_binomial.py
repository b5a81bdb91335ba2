"""Negative binomial family (nb2): counts whose variance grows with the square of the mean."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from dgmm.families.base import Derivatives, Extra, Family, Observations
from dgmm.families.beta import unit_share
from dgmm.families.draws import log_gamma_draw
from dgmm.families.naming import find
from dgmm.families.poisson import read_counts
from dgmm.families.special import log_rising

__all__ = ["NegativeBinomial"]


class NegativeBinomial(Family):
    """log p = log G(y + s) / {G(s) y!} + s log{s / (s + mu)} + y log{mu / (s + mu)}, s the size.

    var(y) = mu + mu^2 / s.

    References:
        Lawless (1987), Canadian J. Statistics 15, 209-225.
    """

    name = "negative_binomial"
    links = ("log", "identity", "sqrt")
    extra = ("log_size",)
    support = "counts"
    dispersion = "log_size"

    def read(
        self, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return read_counts(self, y, trials, weights)

    def constant(self, data: Observations) -> Tensor:
        return -data.weights * torch.lgamma(data.y + 1)

    def log_density(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        x = self.link.log_mean(eta) - extra[0]
        return self.constant(data) + data.weights * _kernel(data.y, x, extra[0])

    def derivatives(
        self, data: Observations, eta: Tensor, extra: Extra, order: int = 3
    ) -> Derivatives | None:
        if self.link.name != "log":
            return None
        y, w, x = data.y, data.weights, eta - extra[0]
        share = torch.sigmoid(x)
        pull = w * (y + torch.exp(extra[0])) * share
        second = -pull * torch.sigmoid(-x)
        value = w * _kernel(y, x, extra[0])
        return Derivatives(value, w * y - pull, second, second * (1 - 2 * share))

    def edges(self) -> tuple[tuple[str, Family], ...]:
        return (("log_size", find("poisson", self.link.name)),)

    def distribution(
        self, data: Observations, eta: Tensor, extra: Extra
    ) -> tuple[Tensor, Tensor] | None:
        log_mean = self.link.log_mean(eta)
        share = torch.sigmoid(extra[0] - log_mean)
        up_to = unit_share(share, extra[0], torch.log(data.y + 1))
        below = unit_share(share, extra[0], torch.log(data.y.clamp(min=1.0)))
        return torch.where(data.y > 0, below, 0.0), up_to

    def variance(self, eta: Tensor, data: Observations, extra: Extra) -> Tensor:
        mu = self.link.inverse(eta)
        return (mu + mu.square() * torch.exp(-extra[0])) / data.weights

    def simulate(
        self, eta: Tensor, data: Observations, extra: Extra, generator: torch.Generator
    ) -> Tensor:
        size = torch.exp(extra[0]) + torch.zeros_like(eta)
        rate = self.link.inverse(eta) * torch.exp(log_gamma_draw(size, generator) - size.log())
        return torch.poisson(rate, generator=generator)

    def start_extra(self, data: Observations, mu: Tensor) -> Tensor:
        over = ((data.y - mu).square() - mu).sum() / mu.square().sum()  # about 1 / size
        return -torch.log(over.clamp(0.02, 20.0)).reshape(1)

    def start_mean(self, data: Observations) -> Tensor:
        return data.y + 0.1


def _kernel(y: Tensor, x: Tensor, log_size: Tensor) -> Tensor:
    """log p + log y! at x = log(mu / size)."""
    size = torch.exp(log_size)
    rising = log_rising(log_size, y)
    return rising + y * x - (y + size) * softplus(x, threshold=40.0)
