"""Beta family: outcomes strictly inside an interval."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import special
from torch import Tensor

from dgmm.families.base import Extra, Observations
from dgmm.families.draws import log_gamma_draw
from dgmm.families.interval import OnInterval
from dgmm.families.special import log_beta_density

__all__ = ["Beta", "unit_draw", "unit_share"]


def unit_share(u: Tensor, log_a: Tensor, log_b: Tensor) -> Tensor:
    """P(U <= u) of a Beta(a, b) variable, without derivatives."""
    shapes = (torch.exp(one.detach()).numpy() for one in (log_a, log_b))
    return torch.as_tensor(special.betainc(*shapes, u.clamp(0.0, 1.0).numpy()))


def unit_draw(
    log_a: Tensor, log_b: Tensor, bounds: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """A Beta(a, b) variable stretched over the open interval ``bounds``."""
    lower, upper = bounds
    log_odds = log_gamma_draw(torch.exp(log_a), generator)
    log_odds = log_odds - log_gamma_draw(torch.exp(log_b), generator)
    y = lower + (upper - lower) * torch.sigmoid(log_odds)
    # rounding may reach an end, where the density has no value
    return y.clamp(float(np.nextafter(lower, upper)), float(np.nextafter(upper, lower)))


class Beta(OnInterval):
    """log p = log G(phi) / {G(a) G(b)} + (a-1) log u + (b-1) log(1-u) - log(upper - lower).

    u = (y - lower) / (upper - lower) in (0, 1), a = mu phi, b = (1 - mu) phi, mu = g^-1(eta) and
    phi the precision; E(y) = lower + (upper - lower) mu, var(u) = mu (1 - mu) / (1 + phi).

    References:
        Ferrari and Cribari-Neto (2004), J. Applied Statistics 31, 799-815.
    """

    name = "beta"
    links = ("logit", "probit", "cloglog")
    extra = ("log_precision",)
    dispersion = "log_precision"

    def without_residual(self, data: Observations) -> Tensor | None:
        return self.link.forward((self.response(data) - self.bounds[0]) / self.width)

    def log_density(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        lower, upper = self.bounds
        y, log_a, log_b = self.response(data), self._log_a(eta, extra), self._log_b(eta, extra)
        log_y = torch.log(y - lower) - math.log(self.width)
        log_rest = torch.log(upper - y) - math.log(self.width)
        density = log_beta_density(log_y, log_rest, log_a, log_b, extra[0])
        return data.weights * (density - math.log(self.width))

    def distribution(
        self, data: Observations, eta: Tensor, extra: Extra
    ) -> tuple[Tensor, Tensor] | None:
        u = (self.response(data) - self.bounds[0]) / self.width
        p = unit_share(u, self._log_a(eta, extra), self._log_b(eta, extra))
        return p, p

    def _log_a(self, eta: Tensor, extra: Extra) -> Tensor:
        return self.link.log_mean(eta) + extra[0]

    def _log_b(self, eta: Tensor, extra: Extra) -> Tensor:
        assert self.link.log_complement is not None
        return self.link.log_complement(eta) + extra[0]

    def mean(self, eta: Tensor, extra: Extra) -> Tensor:
        return self.bounds[0] + self.width * self.link.inverse(eta)

    def mean_slope(self, eta: Tensor, extra: Extra) -> Tensor:
        return self.width * self.link.derivative(eta)

    def predictor(self, mean: Tensor, extra: Extra) -> Tensor:
        return self.link.forward((mean - self.bounds[0]) / self.width)

    def variance(self, eta: Tensor, data: Observations, extra: Extra) -> Tensor:
        mu = self.link.inverse(eta)
        unit = (mu * (1 - mu)).clamp(min=1e-12) / (1 + torch.exp(extra[0]))
        return self.width**2 * unit / data.weights

    def information(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        """phi^2 {psi1(a) + psi1(b)} (d mu / d eta)^2, the expected information."""
        total = torch.zeros_like(eta)
        slope, mu = self.link.derivative(eta), self.link.inverse(eta)
        for log_x, share in ((self._log_a(eta, extra), mu), (self._log_b(eta, extra), 1 - mu)):
            x = torch.exp(log_x)
            # x^2 psi1(x) = 1 + x^2 psi1(x + 1): finite as x goes to 0
            scaled = 1 + x.square() * torch.polygamma(1, x + 1)
            total = total + scaled * (slope / share.clamp(min=1e-150)).square()
        return data.weights * total.clamp(min=1e-12)

    def working_residual(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        return self.score(data, eta, extra) / self.information(data, eta, extra)

    def simulate(
        self, eta: Tensor, data: Observations, extra: Extra, generator: torch.Generator
    ) -> Tensor:
        log_a, log_b = self._log_a(eta, extra), self._log_b(eta, extra)
        return unit_draw(log_a, log_b, self.bounds, generator)

    def start_extra(self, data: Observations, mu: Tensor) -> Tensor:
        unit = (self.response(data) - self.bounds[0]) / self.width
        ratio = (mu * (1 - mu)).sum() / (unit - mu).square().sum().clamp(min=1e-12)
        return torch.log((ratio - 1).clamp(0.5, 500.0)).reshape(1)

    def start_mean(self, data: Observations) -> Tensor:
        return ((self.response(data) - self.bounds[0]) / self.width).clamp(0.01, 0.99)
