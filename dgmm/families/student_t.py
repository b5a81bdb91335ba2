"""Student t family: a location with heavy tails."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy import special
from torch import Tensor

from dgmm.families.base import Extra, Family, Observations
from dgmm.families.draws import log_gamma_draw
from dgmm.families.gaussian import check_sign
from dgmm.families.special import log_rising

__all__ = ["StudentT"]


class StudentT(Family):
    """log p = log G((d+1)/2) - log G(d/2) - 1/2 log(pi d) - log s - (d+1)/2 log(1 + z^2 / d).

    z = (y - mu) / s with location mu = g^-1(eta), scale s and d degrees of freedom. The variance
    is s^2 d / (d - 2), infinite for d <= 2; for d <= 1 the mean reported is the location.

    References:
        Lange, Little and Taylor (1989), J. American Statistical Association 84, 881-896.
    """

    name = "student_t"
    links = ("identity", "log", "inverse")
    extra = ("log_sigma", "log_df")
    dispersion = "log_sigma"

    def read(
        self, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.per_trial(y, trials, weights)

    def fitted_to(self, y: np.ndarray, labels: tuple[Any, ...] = ()) -> Family:
        check_sign(self, y)
        return self

    def log_density(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        log_sigma, log_df = extra[0], extra[1]
        z = (self.response(data) - self.link.inverse(eta)) * torch.exp(-log_sigma)
        half = torch.full_like(log_df, 0.5)
        norm = log_rising(log_df - math.log(2), half) - 0.5 * (log_df + math.log(math.pi))
        kernel = 0.5 * (torch.exp(log_df) + 1) * torch.log1p(z.square() * torch.exp(-log_df))
        return data.weights * (norm - log_sigma - kernel)

    def distribution(
        self, data: Observations, eta: Tensor, extra: Extra
    ) -> tuple[Tensor, Tensor] | None:
        z = (self.response(data) - self.link.inverse(eta)) * torch.exp(-extra[0])
        p = torch.as_tensor(special.stdtr(torch.exp(extra[1]).numpy(), z.numpy()))
        return p, p

    def variance(self, eta: Tensor, data: Observations, extra: Extra) -> Tensor:
        df = torch.exp(extra[1])
        heavy = torch.where(df > 2, df / (df - 2).clamp(min=1e-300), torch.inf)
        return torch.exp(2 * extra[0]) * heavy / data.weights + torch.zeros_like(eta)

    def information(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        """(d + 1) / {(d + 3) s^2} (d mu / d eta)^2, the expected information."""
        df = torch.exp(extra[1])
        per_mean = torch.exp(-2 * extra[0]) * (df + 1) / (df + 3) * data.weights
        return per_mean * self.link.derivative(eta).square()

    def working_residual(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        return self.score(data, eta, extra) / self.information(data, eta, extra)

    def simulate(
        self, eta: Tensor, data: Observations, extra: Extra, generator: torch.Generator
    ) -> Tensor:
        df = torch.exp(extra[1]) + torch.zeros_like(eta)
        noise = torch.randn(eta.shape, generator=generator, dtype=eta.dtype)
        log_chi2 = log_gamma_draw(df / 2, generator) + math.log(2)
        wide = noise * torch.exp(0.5 * (df.log() - log_chi2))
        return self.link.inverse(eta) + torch.exp(extra[0]) * wide

    def start_extra(self, data: Observations, mu: Tensor) -> Tensor:
        y = self.response(data)
        residual = y - mu
        if float(residual.abs().max()) < 1e-8 * float(y.std(correction=0)):  # nothing known yet
            residual = y - y.mean()
        square = residual.square().mean().clamp(min=1e-300)
        return torch.stack([0.5 * torch.log(0.75 * square), torch.full_like(square, math.log(8.0))])

    def start_mean(self, data: Observations) -> Tensor:
        y = self.response(data)
        return y if self.link.name == "identity" else y.clamp(min=float(y.abs().mean()) * 1e-2)
