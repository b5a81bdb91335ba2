"""Gaussian family: y ~ N(mu, sigma^2 / w) with prior weight w."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgmm.families.base import Extra, Family, Observations, refuse

__all__ = ["Gaussian", "check_sign"]


def check_sign(family: Family, y: np.ndarray) -> None:
    """Refuse outcomes that a mean of one sign, of the inverse or log link, cannot follow.

    Asked at the fit only: a draw from the fitted family may have the other sign.
    """
    name, advice = f"family {family.name!r} with link={family.link.name!r}", "Use link='identity'."
    if family.link.name == "inverse":
        refuse(y < 0, y, f"{name} has means of one sign and needs outcomes from 0 on", advice)
    if family.link.name == "log" and y.mean() <= 0:
        refuse(y <= 0, y, f"{name} has positive means, and the mean outcome is not above 0", advice)


class Gaussian(Family):
    """log p = -1/2 log(2 pi sigma^2 / w) - w (y - mu)^2 / (2 sigma^2); extra = log sigma.

    Without ``noise`` sigma is zero: y is mu, and has a density through the random part alone.
    """

    name = "gaussian"
    links = ("identity", "log", "inverse")
    extra: tuple[str, ...] = ("log_sigma",)
    dispersion: str | None = "log_sigma"
    repeats = False

    def __init__(self, link: str | None = None, noise: bool = True) -> None:
        super().__init__(link)
        self.noise = noise
        if not noise:
            self.extra, self.dispersion = (), None

    def options(self) -> dict[str, Any]:
        return {**super().options(), **({} if self.noise else {"noise": False})}

    def without_noise(self) -> Family:
        return Gaussian(noise=False) if self.link.name == "identity" else super().without_noise()

    @property
    def conjugate(self) -> bool:
        return self.link.name == "identity"

    def read(
        self, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.per_trial(y, trials, weights)

    def fitted_to(self, y: np.ndarray, labels: tuple[Any, ...] = ()) -> Family:
        check_sign(self, y)
        return self

    def log_density(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        if not self.noise:
            raise ValueError("an outcome without noise has no density given its random effects")
        scaled = (self.response(data) - self.link.inverse(eta)) * torch.exp(-extra[0])
        constant = 0.5 * (torch.log(data.weights) - math.log(2 * math.pi)) - extra[0]
        return constant - 0.5 * data.weights * scaled.square()

    def score(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        if not (self.noise and self.conjugate):
            return super().score(data, eta, extra)
        return data.weights * torch.exp(-2 * extra[0]) * (self.response(data) - eta)

    def distribution(
        self, data: Observations, eta: Tensor, extra: Extra
    ) -> tuple[Tensor, Tensor] | None:
        spread = self.variance(eta, data, extra).sqrt()
        p = torch.special.ndtr((self.response(data) - self.link.inverse(eta)) / spread)
        return p, p

    def variance(self, eta: Tensor, data: Observations, extra: Extra) -> Tensor:
        if not self.noise:
            return torch.zeros_like(eta)
        return torch.exp(2 * extra[0]) / data.weights + torch.zeros_like(eta)

    def information(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        """Without noise that of errors of variance one: all rows count alike."""
        if not self.noise:
            return torch.ones_like(eta)
        return super().information(data, eta, extra)

    def edges(self) -> tuple[tuple[str, Family], ...]:
        whole = self.noise and self.conjugate
        return (("log_sigma", self.without_noise()),) if whole else ()

    def observation_formula(self, form: str = "lognormal") -> str:
        if not self.noise:
            return "0"
        return "sigma^2" if self.conjugate else super().observation_formula(form)

    def simulate(
        self, eta: Tensor, data: Observations, extra: Extra, generator: torch.Generator
    ) -> Tensor:
        noise = torch.randn(eta.shape, generator=generator, dtype=eta.dtype)
        return self.link.inverse(eta) + noise * self.variance(eta, data, extra).sqrt()

    def start_extra(self, data: Observations, mu: Tensor) -> Tensor:
        if not self.noise:
            return torch.zeros(0, dtype=torch.float64)
        mean_square = (data.weights * (self.response(data) - mu).square()).mean()
        return 0.5 * torch.log(mean_square.clamp(min=1e-300)).reshape(1)

    def start_mean(self, data: Observations) -> Tensor:
        y = self.response(data)
        return y if self.link.name == "identity" else y.clamp(min=float(y.abs().mean()) * 1e-2)
