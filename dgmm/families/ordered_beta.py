"""Ordered beta family: outcomes in a closed interval, with mass at both ends."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dgmm.families.base import Extra, Observations, slope_of
from dgmm.families.beta import unit_draw, unit_share
from dgmm.families.draws import uniform
from dgmm.families.interval import OnInterval
from dgmm.families.inverse import solve_increasing
from dgmm.families.links import LINKS, Link
from dgmm.families.special import log1mexp, log_beta_density

__all__ = ["OrderedBeta"]


class OrderedBeta(OnInterval):
    """P(y = lower) = F(c1 - eta), P(y = upper) = F(eta - c2), beta density in between.

    F is logistic; inside, u = (y - lower) / (upper - lower) is Beta(mu phi, (1 - mu) phi) with
    mu = F(eta), times P(inside) = F(eta - c1) - F(eta - c2) and the Jacobian. The extra parameters
    are c1, log(c2 - c1) and log phi; reported are both cutpoints and phi, the precision.

    References:
        Kubinec (2023), Political Analysis 31, 519-536.
    """

    name = "ordered_beta"
    links = ("logit",)
    extra = ("cutpoint1", "log_gap", "log_precision")
    dispersion = "log_precision"
    closed = True

    def extremes(self, data: Observations) -> tuple[Tensor, Tensor] | None:
        y, (lower, upper) = self.response(data), self.bounds
        return y <= lower, y >= upper

    def without_residual(self, data: Observations) -> Tensor | None:
        u = (self.response(data) - self.bounds[0]) / self.width
        return torch.where((u > 0) & (u < 1), self.link.forward(u), torch.nan)

    def _log_shares(self, eta: Tensor, extra: Extra) -> tuple[Tensor, Tensor, Tensor]:
        """log P(lower), log P(inside), log P(upper)."""
        log_f, gap = self.link.log_mean, torch.exp(extra[1])
        low, high = extra[0] - eta, eta - extra[0] - gap
        return log_f(low), log_f(-low) + log_f(-high) + log1mexp(gap), log_f(high)

    def log_density(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        lower, upper = self.bounds
        y = self.response(data)
        u = ((y - lower) / self.width).clamp(min=0.0, max=1.0)
        inside = (y > lower) & (y < upper)
        half = torch.full_like(u, 0.5)
        log_u = torch.log(torch.where(inside, u, half))
        log_rest = torch.log(torch.where(inside, (upper - y) / self.width, half))
        low, between_ends, high = self._log_shares(eta, extra)
        log_a, log_b = self._log_shapes(eta, extra)
        density = log_beta_density(log_u, log_rest, log_a, log_b, extra[2])
        middle = between_ends + density - math.log(self.width)
        return data.weights * torch.where(inside, middle, torch.where(y <= lower, low, high))

    def _log_shapes(self, eta: Tensor, extra: Extra) -> tuple[Tensor, Tensor]:
        return self.link.log_mean(eta) + extra[2], self.link.log_mean(-eta) + extra[2]

    def mean(self, eta: Tensor, extra: Extra) -> Tensor:
        _, inside, high = self._log_shares(eta, extra)
        unit = torch.exp(high) + torch.exp(inside) * self.link.inverse(eta)
        return self.bounds[0] + self.width * unit

    def mean_slope(self, eta: Tensor, extra: Extra) -> Tensor:
        return slope_of(lambda point: self.mean(point, extra), eta, extra)

    def predictor(self, mean: Tensor, extra: Extra) -> Tensor:
        return solve_increasing(
            lambda eta: self.mean(eta, extra), lambda eta: self.mean_slope(eta, extra), mean
        )

    def variance(self, eta: Tensor, data: Observations, extra: Extra) -> Tensor:
        _, inside, high = self._log_shares(eta, extra)
        mu, inside, high = self.link.inverse(eta), torch.exp(inside), torch.exp(high)
        square = high + inside * (mu * (1 - mu) / (1 + torch.exp(extra[2])) + mu.square())
        unit = square - (high + inside * mu).square()
        return self.width**2 * unit.clamp(min=1e-12) / data.weights

    def distribution(
        self, data: Observations, eta: Tensor, extra: Extra
    ) -> tuple[Tensor, Tensor] | None:
        low, inside, high = (torch.exp(value) for value in self._log_shares(eta, extra))
        u = (self.response(data) - self.bounds[0]) / self.width
        up_to = low + inside * unit_share(u, *self._log_shapes(eta, extra))
        below = torch.where(u <= 0, 0.0, torch.where(u >= 1, 1 - high, up_to))
        return below, torch.where(u >= 1, 1.0, up_to)

    def simulate(
        self, eta: Tensor, data: Observations, extra: Extra, generator: torch.Generator
    ) -> Tensor:
        low, _, high = (torch.exp(value) for value in self._log_shares(eta, extra))
        u = uniform(low, generator)
        log_a, log_b = self._log_shapes(eta, extra)
        y = unit_draw(log_a, log_b, self.bounds, generator)
        y = torch.where(u < low, torch.full_like(y, self.bounds[0]), y)
        return torch.where(u > 1 - high, torch.full_like(y, self.bounds[1]), y)

    def start_extra(self, data: Observations, mu: Tensor) -> Tensor:
        y = self.response(data)
        u = (y - self.bounds[0]) / self.width
        low = (u <= 0).double().mean().clamp(0.01, 0.45)
        high = (u >= 1).double().mean().clamp(0.01, 0.45)
        inside = ((u > 0) & (u < 1)).double()
        middle = torch.logit(mu.mean().clamp(0.05, 0.95))
        first, second = middle + torch.logit(low), middle - torch.logit(high)
        square = (inside * (u - mu).square()).sum().clamp(min=1e-12)
        precision = ((inside * mu * (1 - mu)).sum() / square - 1).clamp(0.5, 500.0)
        return torch.stack([first, torch.log(second - first), torch.log(precision)])

    def start_mean(self, data: Observations) -> Tensor:
        return ((self.response(data) - self.bounds[0]) / self.width).clamp(0.02, 0.98)

    def natural(self, extra: Extra) -> Tensor:
        second = extra[0] + torch.exp(extra[1])
        return torch.stack([extra[0], second, torch.exp(extra[2])])

    def natural_names(self) -> tuple[str, ...]:
        return ("cutpoint1", "cutpoint2", "precision")

    def natural_links(self) -> tuple[Link, ...]:
        return (LINKS["identity"], LINKS["identity"], LINKS["log"])
