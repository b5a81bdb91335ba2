"""Logit-normal family: the logit of an outcome on an interval is Gaussian."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dgmm.families.base import Extra, Observations
from dgmm.families.interval import OnInterval
from dgmm.families.inverse import solve_increasing

__all__ = ["LogitNormal"]

STEP = 0.25
"""Of the trapezoidal rule in standard deviations: exact to rounding as far as sigma < 3."""

HALF = 33
"""Nodes of the rule on either side of the mean."""


class LogitNormal(OnInterval):
    """log p = log N(logit u; eta, sigma^2) - log u - log(1 - u) - log(upper - lower).

    u = (y - lower) / (upper - lower) in (0, 1). eta is the logit of the median. The mean and the
    variance have no closed form and are integrals over the normal density of logit u.

    References:
        Aitchison and Shen (1980), Biometrika 67, 261-272.
    """

    name = "logit_normal"
    links = ("identity",)
    extra = ("log_sigma",)
    dispersion = "log_sigma"

    def _log_odds(self, data: Observations) -> Tensor:
        y, (lower, upper) = self.response(data), self.bounds
        return torch.log(y - lower) - torch.log(upper - y)

    def without_residual(self, data: Observations) -> Tensor | None:
        return self._log_odds(data)

    def log_density(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        y, (lower, upper) = self.response(data), self.bounds
        z = (self._log_odds(data) - eta) * torch.exp(-extra[0])
        jacobian = math.log(self.width) - torch.log(y - lower) - torch.log(upper - y)
        normal = -0.5 * z.square() - extra[0] - 0.5 * math.log(2 * math.pi)
        return data.weights * (normal + jacobian)

    def distribution(
        self, data: Observations, eta: Tensor, extra: Extra
    ) -> tuple[Tensor, Tensor] | None:
        p = torch.special.ndtr((self._log_odds(data) - eta) * torch.exp(-extra[0]))
        return p, p

    def _expected(self, eta: Tensor, extra: Extra, power: int, slope: bool = False) -> Tensor:
        """E(u^power), or its derivative in eta, u = 1 / {1 + exp(-eta - sigma z)}, z ~ N(0, 1)."""
        sigma, total, weight = torch.exp(extra[0]), torch.zeros_like(eta), 0.0
        for j in range(-HALF, HALF + 1):
            z = STEP * j
            w = math.exp(-0.5 * z * z)
            u = torch.sigmoid(eta + sigma * z)
            value = u**power
            total = total + w * (power * value * (1 - u) if slope else value)
            weight += w
        return total / weight

    def mean(self, eta: Tensor, extra: Extra) -> Tensor:
        return self.bounds[0] + self.width * self._expected(eta, extra, 1)

    def mean_slope(self, eta: Tensor, extra: Extra) -> Tensor:
        return self.width * self._expected(eta, extra, 1, slope=True)

    def predictor(self, mean: Tensor, extra: Extra) -> Tensor:
        return solve_increasing(
            lambda eta: self.mean(eta, extra), lambda eta: self.mean_slope(eta, extra), mean
        )

    def variance(self, eta: Tensor, data: Observations, extra: Extra) -> Tensor:
        unit = self._expected(eta, extra, 2) - self._expected(eta, extra, 1).square()
        return self.width**2 * unit.clamp(min=1e-12) / data.weights

    def observation_variance(self, eta: Tensor, extra: Extra, form: str = "lognormal") -> Tensor:
        """sigma^2, exact: logit u is normal about eta."""
        return torch.exp(2 * extra[0]) + torch.zeros_like(eta)

    def observation_formula(self, form: str = "lognormal") -> str:
        return "sigma^2"

    def information(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        """1 / sigma^2, exact."""
        return torch.exp(-2 * extra[0]) * data.weights + torch.zeros_like(eta)

    def working_residual(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        return self._log_odds(data) - eta

    def simulate(
        self, eta: Tensor, data: Observations, extra: Extra, generator: torch.Generator
    ) -> Tensor:
        noise = torch.randn(eta.shape, generator=generator, dtype=eta.dtype)
        (lower, upper), u = self.bounds, torch.sigmoid(eta + torch.exp(extra[0]) * noise)
        y = lower + self.width * u
        # rounding may reach an end, where the density has no value
        return y.clamp(float(np.nextafter(lower, upper)), float(np.nextafter(upper, lower)))

    def start_extra(self, data: Observations, mu: Tensor) -> Tensor:
        square = (self._log_odds(data) - mu).square().mean()
        return 0.5 * torch.log(square.clamp(min=1e-300)).reshape(1)

    def start_mean(self, data: Observations) -> Tensor:
        return self._log_odds(data)
