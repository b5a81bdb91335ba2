"""Beta-binomial family: successes out of trials, more dispersed than binomial."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dgmm.families.base import Extra, Family, Observations
from dgmm.families.binomial import log_choose, read_trials
from dgmm.families.draws import log_gamma_draw
from dgmm.families.naming import find
from dgmm.families.special import log_rising

__all__ = ["BetaBinomial"]


class BetaBinomial(Family):
    """log p = log C(m, y) + log B(a + y, b + m - y) - log B(a, b), a = mu phi, b = (1 - mu) phi.

    m trials; var(y / m) = mu (1 - mu) / m {1 + (m - 1) / (phi + 1)}, phi the precision.

    References:
        Crowder (1978), Applied Statistics 27, 34-37.
    """

    name = "beta_binomial"
    links = ("logit", "probit", "cloglog")
    extra = ("log_precision",)
    support = "trials"
    dispersion = "log_precision"
    threshold = True  # one trial alone is a Bernoulli variable

    def read(
        self, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return read_trials(self, y, trials, weights)

    def log_density(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        y, failures = data.y, data.trials - data.y
        assert self.link.log_complement is not None
        success = log_rising(self.link.log_mean(eta) + extra[0], y)
        failure = log_rising(self.link.log_complement(eta) + extra[0], failures)
        total = log_rising(extra[0] + torch.zeros_like(data.trials), data.trials)
        return data.weights * (log_choose(data) + success + failure - total)

    def edges(self) -> tuple[tuple[str, Family], ...]:
        return (("log_precision", find("binomial", self.link.name)),)

    def variance(self, eta: Tensor, data: Observations, extra: Extra) -> Tensor:
        mu = self.link.inverse(eta)
        more = 1 + (data.trials - 1) / (torch.exp(extra[0]) + 1)
        return (mu * (1 - mu)).clamp(min=1e-12) * more / (data.weights * data.trials)

    def simulate(
        self, eta: Tensor, data: Observations, extra: Extra, generator: torch.Generator
    ) -> Tensor:
        assert self.link.log_complement is not None
        a = torch.exp(self.link.log_mean(eta) + extra[0])
        b = torch.exp(self.link.log_complement(eta) + extra[0])
        log_odds = log_gamma_draw(a, generator) - log_gamma_draw(b, generator)
        p, trials = torch.broadcast_tensors(torch.sigmoid(log_odds), data.trials)
        return torch.binomial(trials.contiguous(), p.contiguous(), generator=generator)

    def start_extra(self, data: Observations, mu: Tensor) -> Tensor:
        square = data.trials * (self.response(data) - mu).square() / (mu * (1 - mu))
        share = (square.mean() - 1) / (data.trials.mean() - 1).clamp(min=0.1)
        return torch.log(1 / share.clamp(0.02, 0.9) - 1).reshape(1)

    def start_mean(self, data: Observations) -> Tensor:
        return (data.y + 0.5) / (data.trials + 1)
