"""Poisson family: counts with mean g^-1(eta)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dgmm.families.base import Derivatives, Extra, Family, Observations, refuse
from dgmm.families.given_sum import counts_given_sum
from dgmm.families.special import log_saturated

__all__ = ["Poisson", "read_counts"]

MOST = 2.0**53
"""Above, not every whole number is a floating-point number."""


def read_counts(
    family: Family, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts 0, 1, 2, ..., checked."""
    name = f"family {family.name!r}"
    y, trials, weights = family.per_trial(y, trials, weights)
    advice = "For an outcome that may be negative use family='gaussian'."
    refuse(y < 0, y, f"{name} needs counts 0, 1, 2, ...", advice)
    advice = "Counts this large lose whole numbers; use family='gamma' or 'lognormal'."
    refuse(~(y <= MOST), y, f"{name} needs counts up to 2^53", advice)
    refuse(
        np.abs(y - np.round(y)) > 1e-8,
        y,
        f"{name} needs counts 0, 1, 2, ...",
        "For rates keep the count as outcome and add offset(log(exposure)); for positive "
        "continuous outcomes use family='gamma'.",
    )
    return y, trials, weights


class Poisson(Family):
    """log p = y log mu - mu - log y!."""

    name = "poisson"
    links = ("log", "identity", "sqrt")
    support = "counts"

    def read(
        self, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return read_counts(self, y, trials, weights)

    def log_density(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        count, none = data.y.clamp(min=1.0), data.y == 0
        log_mean = self.link.log_mean(eta)
        ratio = log_mean - count.log()
        kernel = data.y * ratio - count * torch.expm1(ratio)
        some = data.weights * kernel + self.constant(data)
        # -mu, with the digits that 1 - f(0) of a hurdle needs where mu is small
        zero = -data.weights * torch.exp(torch.where(none, log_mean, torch.zeros_like(log_mean)))
        return torch.where(none, zero, some)

    def derivatives(
        self, data: Observations, eta: Tensor, extra: Extra, order: int = 3
    ) -> Derivatives | None:
        if self.link.name != "log":
            return None
        if order == 2:
            value = mean = data.weights * torch.exp(eta)
        else:  # relative to the best mean: y eta - mu of a large count would leave no digits
            count = data.y.clamp(min=1.0)
            ratio = eta - count.log()
            excess = count * torch.expm1(ratio)
            value = data.weights * (data.y * ratio - excess)
            mean = data.weights * (count + excess)
        bent = -mean
        return Derivatives(value, data.weights * data.y - mean, bent, bent, bent)

    def constant(self, data: Observations) -> Tensor:
        return data.weights * log_saturated(data.y)

    def cumulant(self, eta: Tensor) -> tuple[Tensor, Tensor] | None:
        if self.link.name != "log":
            return None
        mean = torch.exp(eta)
        return mean, mean

    def cumulant_change(self, eta: Tensor, delta: Tensor) -> tuple[Tensor, Tensor] | None:
        if self.link.name != "log":
            return None
        change = torch.exp(eta) * torch.expm1(delta)
        return change, change

    def given_sum(self, data: Observations, eta: Tensor, mask: Tensor) -> Tensor | None:
        return counts_given_sum(data.y, eta, mask) if self.link.name == "log" else None

    def distribution(
        self, data: Observations, eta: Tensor, extra: Extra
    ) -> tuple[Tensor, Tensor] | None:
        mean = self.link.inverse(eta)
        count = data.y + torch.zeros_like(mean)
        below = torch.special.gammaincc(count.clamp(min=1.0), mean)
        return torch.where(count > 0, below, 0.0), torch.special.gammaincc(count + 1, mean)

    def variance(self, eta: Tensor, data: Observations, extra: Extra) -> Tensor:
        return self.link.inverse(eta).clamp(min=1e-12) / data.weights

    def simulate(
        self, eta: Tensor, data: Observations, extra: Extra, generator: torch.Generator
    ) -> Tensor:
        return torch.poisson(self.link.inverse(eta), generator=generator)

    def start_extra(self, data: Observations, mu: Tensor) -> Tensor:
        return torch.zeros(0, dtype=mu.dtype)

    def start_mean(self, data: Observations) -> Tensor:
        return data.y + 0.1
