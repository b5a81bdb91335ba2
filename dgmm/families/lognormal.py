"""Lognormal family: log y is Gaussian."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dgmm.families.base import Extra, Family, Observations
from dgmm.families.gamma import read_positive
from dgmm.families.links import LINKS, Link

__all__ = ["Lognormal"]


class Lognormal(Family):
    """log p = -1/2 log(2 pi) - log sigma - log y - (log y - eta)^2 / (2 sigma^2).

    E(y) = exp(eta + sigma^2 / 2), var(y) = {exp(sigma^2) - 1} E(y)^2; the density is that of y,
    Jacobian included, so that log-likelihoods compare with those of gamma.
    """

    name = "lognormal"
    links = ("identity",)
    extra = ("log_sigma",)
    support = "positive"
    dispersion = "log_sigma"

    def read(
        self, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return read_positive(self, y, trials, weights)

    def log_density(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        log_y = torch.log(self.response(data))
        z = (log_y - eta) * torch.exp(-extra[0])
        return data.weights * (-0.5 * z.square() - extra[0] - log_y - 0.5 * math.log(2 * math.pi))

    def distribution(
        self, data: Observations, eta: Tensor, extra: Extra
    ) -> tuple[Tensor, Tensor] | None:
        p = torch.special.ndtr((torch.log(self.response(data)) - eta) * torch.exp(-extra[0]))
        return p, p

    def mean(self, eta: Tensor, extra: Extra) -> Tensor:
        return torch.exp(eta + 0.5 * torch.exp(2 * extra[0]))

    def mean_slope(self, eta: Tensor, extra: Extra) -> Tensor:
        return self.mean(eta, extra)

    def predictor(self, mean: Tensor, extra: Extra) -> Tensor:
        return torch.log(mean) - 0.5 * torch.exp(2 * extra[0])

    @property
    def multiplicative(self) -> bool:
        return True

    def observation_variance(self, eta: Tensor, extra: Extra, form: str = "lognormal") -> Tensor:
        """sigma^2, exact: log y is normal about eta."""
        return torch.exp(2 * extra[0]) + torch.zeros_like(eta)

    def observation_formula(self, form: str = "lognormal") -> str:
        return "sigma^2"

    @property
    def mean_link(self) -> Link:
        return LINKS["log"]

    def variance(self, eta: Tensor, data: Observations, extra: Extra) -> Tensor:
        spread = torch.expm1(torch.exp(2 * extra[0]))
        return spread * self.mean(eta, extra).square() / data.weights

    def information(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        """1 / sigma^2, exact."""
        return torch.exp(-2 * extra[0]) * data.weights + torch.zeros_like(eta)

    def working_residual(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        return torch.log(self.response(data)) - eta

    def simulate(
        self, eta: Tensor, data: Observations, extra: Extra, generator: torch.Generator
    ) -> Tensor:
        noise = torch.randn(eta.shape, generator=generator, dtype=eta.dtype)
        return torch.exp(eta + torch.exp(extra[0]) * noise)

    def start_extra(self, data: Observations, mu: Tensor) -> Tensor:
        square = (torch.log(self.response(data)) - mu).square().mean()
        return 0.5 * torch.log(square.clamp(min=1e-300)).reshape(1)

    def start_mean(self, data: Observations) -> Tensor:
        return torch.log(self.response(data))
