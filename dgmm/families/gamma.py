"""Gamma family: positive outcomes with a constant coefficient of variation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dgmm.families.base import Derivatives, Extra, Family, Observations, refuse
from dgmm.families.draws import log_gamma_draw

__all__ = ["Gamma", "read_positive"]


def read_positive(
    family: Family, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outcomes above 0, checked."""
    y, trials, weights = family.per_trial(y, trials, weights)
    refuse(
        y <= 0,
        y,
        f"family {family.name!r} needs outcomes above 0",
        "For zeros beside positive outcomes use family='hurdle_gamma'.",
    )
    return y, trials, weights


class Gamma(Family):
    """log p = k log(k / mu) + (k - 1) log y - k y / mu - log G(k), k the shape.

    var(y) = mu^2 / k.

    References:
        McCullagh and Nelder (1989), Generalized Linear Models, chapter 8.
    """

    name = "gamma"
    links = ("log", "inverse", "identity")
    extra = ("log_shape",)
    support = "positive"
    dispersion = "log_shape"

    def read(
        self, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return read_positive(self, y, trials, weights)

    def log_density(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        shape, log_y = torch.exp(extra[0]), torch.log(self.response(data))
        log_ratio = log_y - self.link.log_mean(eta)
        kernel = shape * (log_ratio - torch.exp(log_ratio) + extra[0]) - torch.lgamma(shape)
        return data.weights * (kernel - log_y)

    def derivatives(
        self, data: Observations, eta: Tensor, extra: Extra, order: int = 3
    ) -> Derivatives | None:
        if self.link.name != "log":
            return None
        w, shape, log_y = data.weights, torch.exp(extra[0]), torch.log(self.response(data))
        log_ratio = log_y - eta
        third = w * shape * torch.exp(log_ratio)
        norm = shape * extra[0] - torch.lgamma(shape)
        value = w * (shape * log_ratio + norm - log_y) - third
        return Derivatives(value, third - w * shape, -third, third)

    def distribution(
        self, data: Observations, eta: Tensor, extra: Extra
    ) -> tuple[Tensor, Tensor] | None:
        shape = torch.exp(extra[0]) + torch.zeros_like(eta)
        p = torch.special.gammainc(shape, shape * self.response(data) / self.link.inverse(eta))
        return p, p

    def variance(self, eta: Tensor, data: Observations, extra: Extra) -> Tensor:
        return self.link.inverse(eta).square() * torch.exp(-extra[0]) / data.weights

    def simulate(
        self, eta: Tensor, data: Observations, extra: Extra, generator: torch.Generator
    ) -> Tensor:
        shape = torch.exp(extra[0]) + torch.zeros_like(eta)
        log_unit = log_gamma_draw(shape, generator) - shape.log()
        tiny = torch.finfo(eta.dtype).tiny
        return (self.link.inverse(eta) * torch.exp(log_unit)).clamp(min=tiny)

    def start_extra(self, data: Observations, mu: Tensor) -> Tensor:
        ratio = self.response(data) / mu.clamp(min=1e-300)
        unit_deviance = 2 * (ratio - 1 - torch.log(ratio)).mean()  # about 1 / shape
        return -torch.log(unit_deviance.clamp(1e-4, 20.0)).reshape(1)

    def start_mean(self, data: Observations) -> Tensor:
        return self.response(data)
