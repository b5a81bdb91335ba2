"""Binomial family: y successes out of known trials."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dgmm.families.base import Derivatives, Extra, Family, Observations, OutcomeError, refuse
from dgmm.families.bernoulli import log_odds_terms, logit_cumulant, logit_derivatives
from dgmm.families.beta import unit_share

__all__ = ["Binomial", "log_choose", "read_trials"]


def read_trials(
    family: Family, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Successes and trials, checked; a proportion with weights is a count out of trials."""
    name = f"family {family.name!r}"
    proportions = np.all(trials == 1) and np.all((y >= 0) & (y <= 1))
    if proportions and np.allclose(y * weights, np.round(y * weights), atol=1e-6):
        # R's idiom: a proportion, with the number of trials as weights
        y, trials, weights = np.round(y * weights), weights, np.ones_like(weights)
    bad = (y < 0) | (y > trials)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise OutcomeError(
            f"{name} needs 0 <= successes <= trials, found {y[row]:g} out of {trials[row]:g}. "
            "Write cbind(success, failure) or success / trials.",
            row,
        )
    refuse(
        (np.abs(y - np.round(y)) > 1e-8) | (trials != np.round(trials)) | (trials > 2.0**53),
        y,
        f"{name} needs whole numbers of successes and trials (below 2^53)",
        "For proportions write success / trials, or give the number of trials as weights=; for "
        "continuous proportions use family='beta'.",
    )
    return y, trials, weights


def log_choose(data: Observations) -> Tensor:
    """log C(m, y)."""
    y, failures = data.y, data.trials - data.y
    return torch.lgamma(data.trials + 1) - torch.lgamma(y + 1) - torch.lgamma(failures + 1)


class Binomial(Family):
    """log p = log C(m, y) + y log mu + (m - y) log(1 - mu), m trials."""

    name = "binomial"
    links = ("logit", "probit", "cloglog")
    support = "trials"
    threshold = True

    def read(
        self, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return read_trials(self, y, trials, weights)

    def log_density(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        kernel = log_odds_terms(self.link, data.y, data.trials - data.y, eta)
        return data.weights * (log_choose(data) + kernel)

    def constant(self, data: Observations) -> Tensor:
        return data.weights * log_choose(data)

    def derivatives(
        self, data: Observations, eta: Tensor, extra: Extra, order: int = 3
    ) -> Derivatives | None:
        if self.link.name != "logit":
            return None
        return logit_derivatives(data.y, data.trials, data.weights, eta, order)

    def cumulant(self, eta: Tensor) -> tuple[Tensor, Tensor] | None:
        return logit_cumulant(eta) if self.link.name == "logit" else None

    def distribution(
        self, data: Observations, eta: Tensor, extra: Extra
    ) -> tuple[Tensor, Tensor] | None:
        y, m, failure = data.y, data.trials, 1 - self.link.inverse(eta)

        def up_to(k: Tensor) -> Tensor:
            inside = (k >= 0) & (k < m)
            log_a, log_b = (torch.where(inside, v, 1.0).log() for v in (m - k, k + 1))
            return torch.where(inside, unit_share(failure, log_a, log_b), (k >= m).double())

        return up_to(y - 1), up_to(y)

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
