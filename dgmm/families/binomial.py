"""Binomial family: y successes out of known trials."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dgmm.families.base import Derivatives, Extra, Family, Observations
from dgmm.families.bernoulli import log_odds_terms, logistic_derivatives

__all__ = ["Binomial"]


class Binomial(Family):
    """log p = log C(m, y) + y log mu + (m - y) log(1 - mu), m trials."""

    name = "binomial"
    links = ("logit", "probit", "cloglog")
    threshold = True

    def read(
        self, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        proportions = np.all(trials == 1) and np.all((y >= 0) & (y <= 1))
        if proportions and np.allclose(y * weights, np.round(y * weights), atol=1e-6):
            # R's idiom: a proportion, with the number of trials as weights
            y, trials, weights = np.round(y * weights), weights, np.ones_like(weights)
        if np.any((y < 0) | (y > trials)):
            bad = int(np.flatnonzero((y < 0) | (y > trials))[0])
            raise ValueError(
                f"family 'binomial' needs 0 <= successes <= trials, found {y[bad]:g} out of "
                f"{trials[bad]:g}. Write cbind(success, failure) or success / trials."
            )
        if np.any(np.abs(y - np.round(y)) > 1e-8) or np.any(trials != np.round(trials)):
            raise ValueError(
                "family 'binomial' needs whole numbers of successes and trials. For proportions "
                "write success / trials, or give the number of trials as weights=."
            )
        return y, trials, weights

    def log_density(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        terms = log_odds_terms(self.link, data.y, data.trials - data.y, eta)
        return data.weights * (_log_choose(data) + terms)

    def derivatives(
        self, data: Observations, eta: Tensor, extra: Extra, order: int = 3
    ) -> Derivatives | None:
        if self.link.name != "logit":
            return None
        return logistic_derivatives(data.y, data.trials, data.weights, eta, order)

    def constant(self, data: Observations) -> Tensor:
        return data.weights * _log_choose(data)

    def extremes(self, data: Observations) -> tuple[Tensor, Tensor] | None:
        return data.y == 0, data.y == data.trials

    def variance(self, eta: Tensor, data: Observations, extra: Extra) -> Tensor:
        mu = self.link.inverse(eta)
        return (mu * (1 - mu)).clamp(min=1e-12) / (data.weights * data.trials)

    def simulate(
        self, eta: Tensor, data: Observations, extra: Extra, generator: torch.Generator
    ) -> Tensor:
        mu, trials = torch.broadcast_tensors(self.link.inverse(eta), data.trials)
        return torch.binomial(trials.contiguous(), mu.contiguous(), generator=generator)

    def start_extra(self, data: Observations, mu: Tensor) -> Tensor:
        return torch.zeros(0, dtype=mu.dtype)

    def start_mean(self, data: Observations) -> Tensor:
        return (data.y + 0.5) / (data.trials + 1)


def _log_choose(data: Observations) -> Tensor:
    """log C(m, y)."""
    y, m = data.y, data.trials
    return torch.lgamma(m + 1) - torch.lgamma(y + 1) - torch.lgamma(m - y + 1)
