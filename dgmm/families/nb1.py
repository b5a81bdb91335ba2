"""Negative binomial family (nb1): counts whose variance is proportional to the mean."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dgmm.families.base import Extra, Family, Observations
from dgmm.families.beta import unit_share
from dgmm.families.draws import log_gamma_draw
from dgmm.families.naming import find
from dgmm.families.poisson import read_counts
from dgmm.families.special import log_rising

__all__ = ["NB1"]


class NB1(Family):
    """log p = log G(y + s) / {G(s) y!} - s log(1 + a) + y log{a / (1 + a)}, s = mu / a.

    var(y) = mu (1 + a), a (alpha) the overdispersion.

    References:
        Hardin and Hilbe (2018), Generalized Linear Models and Extensions, chapter 13.
    """

    name = "nb1"
    links = ("log", "identity", "sqrt")
    extra = ("log_alpha",)
    support = "counts"
    dispersion = "log_alpha"

    def read(
        self, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return read_counts(self, y, trials, weights)

    def log_density(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        y, log_size = data.y, self.link.log_mean(eta) - extra[0]
        log_one = -torch.nn.functional.logsigmoid(-extra[0])  # log(1 + alpha)
        kernel = log_rising(log_size, y) - torch.exp(log_size) * log_one
        return data.weights * (kernel + y * (extra[0] - log_one) - torch.lgamma(y + 1))

    def edges(self) -> tuple[tuple[str, Family], ...]:
        return (("log_alpha", find("poisson", self.link.name)),)

    def distribution(
        self, data: Observations, eta: Tensor, extra: Extra
    ) -> tuple[Tensor, Tensor] | None:
        log_size = self.link.log_mean(eta) - extra[0]
        share = torch.sigmoid(-extra[0])
        up_to = unit_share(share, log_size, torch.log(data.y + 1))
        below = unit_share(share, log_size, torch.log(data.y.clamp(min=1.0)))
        return torch.where(data.y > 0, below, 0.0), up_to

    def variance(self, eta: Tensor, data: Observations, extra: Extra) -> Tensor:
        return self.link.inverse(eta) * (1 + torch.exp(extra[0])) / data.weights

    def simulate(
        self, eta: Tensor, data: Observations, extra: Extra, generator: torch.Generator
    ) -> Tensor:
        alpha = torch.exp(extra[0])
        draw = log_gamma_draw(self.link.inverse(eta) / alpha, generator)
        return torch.poisson(torch.exp(draw) * alpha, generator=generator)

    def start_extra(self, data: Observations, mu: Tensor) -> Tensor:
        ratio = (data.y - mu).square() / mu
        most = max(50.0, float(data.y.median()))  # large counts may vary more, one outlier does not
        return torch.log((ratio.mean() - 1).clamp(0.05, most)).reshape(1)

    def start_mean(self, data: Observations) -> Tensor:
        return data.y + 0.1
