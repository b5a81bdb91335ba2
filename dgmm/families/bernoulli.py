"""Bernoulli family: y in {0, 1} with probability g^-1(eta)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from dgmm.families.base import Derivatives, Extra, Family, Observations, refuse
from dgmm.families.given_sum import binary_given_sum
from dgmm.families.links import Link

__all__ = ["Bernoulli", "log_odds_terms", "logit_cumulant", "logit_derivatives"]


LARGEST = 700.0
"""Below, e^eta is a number."""


def log_odds_terms(link: Link, y: Tensor, failures: Tensor, eta: Tensor) -> Tensor:
    """y log mu + failures log(1 - mu) from log-probabilities that stay finite."""
    assert link.log_complement is not None
    return y * link.log_mean(eta) + failures * link.log_complement(eta)


def logit_derivatives(
    y: Tensor, trials: Tensor, weights: Tensor, eta: Tensor, order: int
) -> Derivatives:
    """y eta - m log(1 + e^eta), times the weights, and its derivatives.

    With p = 1 / (1 + e^-eta) and v = p (1 - p): w (y - m p), -w m v, -w m v (1 - 2 p),
    -w m v (1 - 6 v).
    """
    p, scale = torch.sigmoid(eta), weights * trials
    first = weights * y - scale * p
    second = third = value = first
    fourth: Tensor | None = None
    if order != 2:  # log(1 + e^eta) = max(eta, 0) - log max(p, 1 - p): no slow function
        excess = eta.clamp(min=0.0) - torch.maximum(p, 1 - p).log()
        value = weights * (y * eta) - scale * excess
    if order > 1:
        spread = (1 - p).mul_(p)
        second = -scale * spread
        third = second * (1 - 2 * p) if order > 2 else second
        fourth = second * (1 - 6 * spread) if order > 3 else None
    return Derivatives(value, first, second, third, fourth)


def logit_cumulant(eta: Tensor) -> tuple[Tensor, Tensor]:
    """log(1 + e^eta), and p = e^eta / (1 + e^eta)."""
    if eta.numel() and not float(eta.amax()) < LARGEST:
        p = torch.sigmoid(eta)
        return softplus(eta), p
    odds = torch.exp(eta)
    total = 1 + odds
    p = odds.div_(total)
    return total.log_(), p


class Bernoulli(Family):
    """log p = y log mu + (1 - y) log(1 - mu)."""

    name = "bernoulli"
    links = ("logit", "probit", "cloglog")
    support = "binary"
    repeats = False
    threshold = True

    def read(
        self, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        advice = "For successes out of trials use family='binomial' with cbind(success, failure)."
        needs = "family 'bernoulli' needs outcomes 0 and 1"
        refuse(trials != 1, trials, f"{needs}; a two-column response has other trials", advice)
        refuse(~np.isin(y, (0.0, 1.0)), y, needs, advice)
        return y, trials, weights

    def log_density(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        return data.weights * log_odds_terms(self.link, data.y, 1 - data.y, eta)

    def derivatives(
        self, data: Observations, eta: Tensor, extra: Extra, order: int = 3
    ) -> Derivatives | None:
        if self.link.name != "logit":
            return None
        return logit_derivatives(data.y, data.trials, data.weights, eta, order)

    def cumulant(self, eta: Tensor) -> tuple[Tensor, Tensor] | None:
        return logit_cumulant(eta) if self.link.name == "logit" else None

    def given_sum(self, data: Observations, eta: Tensor, mask: Tensor) -> Tensor | None:
        return binary_given_sum(data.y, eta, mask) if self.link.name == "logit" else None

    def distribution(
        self, data: Observations, eta: Tensor, extra: Extra
    ) -> tuple[Tensor, Tensor] | None:
        none = 1 - self.link.inverse(eta)
        yes = data.y > 0
        return torch.where(yes, none, 0.0), torch.where(yes, 1.0, none)

    def variance(self, eta: Tensor, data: Observations, extra: Extra) -> Tensor:
        mu = self.link.inverse(eta)
        return (mu * (1 - mu)).clamp(min=1e-12) / data.weights

    def simulate(
        self, eta: Tensor, data: Observations, extra: Extra, generator: torch.Generator
    ) -> Tensor:
        return torch.bernoulli(self.link.inverse(eta), generator=generator)

    def start_extra(self, data: Observations, mu: Tensor) -> Tensor:
        return torch.zeros(0, dtype=mu.dtype)

    def start_mean(self, data: Observations) -> Tensor:
        return (data.y + 0.5) / 2
