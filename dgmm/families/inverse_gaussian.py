"""Inverse Gaussian family: positive outcomes with long right tails."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dgmm.families.base import Extra, Family, Observations
from dgmm.families.draws import uniform
from dgmm.families.gamma import read_positive

__all__ = ["InverseGaussian"]


class InverseGaussian(Family):
    """log p = 1/2 log{k / (2 pi y^3)} - k (y - mu)^2 / (2 mu^2 y), k the shape.

    var(y) = mu^3 / k.

    References:
        Chhikara and Folks (1989), The Inverse Gaussian Distribution; Michael, Schucany and Haas
        (1976), The American Statistician 30, 88-90 (simulation).
    """

    name = "inverse_gaussian"
    links = ("log", "inverse", "identity")
    extra = ("log_shape",)
    support = "positive"
    dispersion = "log_shape"

    def read(
        self, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return read_positive(self, y, trials, weights)

    def log_density(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        y = self.response(data)
        away = torch.exp(torch.log(y) - self.link.log_mean(eta)) - 1
        norm = 0.5 * (extra[0] - math.log(2 * math.pi)) - 1.5 * torch.log(y)
        return data.weights * (norm - 0.5 * torch.exp(extra[0]) * away.square() / y)

    def distribution(
        self, data: Observations, eta: Tensor, extra: Extra
    ) -> tuple[Tensor, Tensor] | None:
        y, mu, shape = self.response(data), self.link.inverse(eta), torch.exp(extra[0])
        root = (shape / y).sqrt()
        reflected = 2 * shape / mu + torch.special.log_ndtr(-root * (y / mu + 1))
        p = torch.special.ndtr(root * (y / mu - 1)) + torch.exp(reflected)
        return p, p

    def variance(self, eta: Tensor, data: Observations, extra: Extra) -> Tensor:
        return self.link.inverse(eta).pow(3) * torch.exp(-extra[0]) / data.weights

    def simulate(
        self, eta: Tensor, data: Observations, extra: Extra, generator: torch.Generator
    ) -> Tensor:
        mu = self.link.inverse(eta)
        square = torch.randn(eta.shape, generator=generator, dtype=eta.dtype).square()
        r = 0.5 * mu * square * torch.exp(-extra[0])
        root = 1 / (1 + r + torch.sqrt(2 * r + r.square()))  # the smaller root, without cancelling
        smaller = uniform(mu, generator) <= 1 / (1 + root)
        tiny = torch.finfo(eta.dtype).tiny
        return (mu * torch.where(smaller, root, 1 / root)).clamp(min=tiny)

    def start_extra(self, data: Observations, mu: Tensor) -> Tensor:
        y = self.response(data)
        unit_deviance = ((y - mu).square() / (mu.square() * y)).mean()
        floor = 1e-4 / float(y.mean())
        return -torch.log(unit_deviance.clamp(min=floor)).reshape(1)

    def start_mean(self, data: Observations) -> Tensor:
        return self.response(data)
