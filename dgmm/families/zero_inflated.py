"""Zero-inflated families: a count family with more zeros."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from dgmm.families.base import Extra, Family, Observations, OutcomeError
from dgmm.families.draws import uniform
from dgmm.families.links import Link
from dgmm.families.naming import find

__all__ = ["ZeroInflated", "read_as"]


def read_as(
    name: str, base: Family, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``base.read`` with the name of the wrapper in its errors."""
    try:
        return base.read(y, trials, weights)
    except OutcomeError as error:
        message = error.message.replace(f"family {base.name!r}", f"family {name!r}")
        raise OutcomeError(message, error.row) from None


class ZeroInflated(Family):
    """P(0) = z + (1 - z) f(0), p(y) = (1 - z) f(y) for y > 0, f the base family.

    z is the probability of a structural zero, reported as ``zero``. E(y) = (1 - z) mu and
    var(y) = (1 - z) (v + z mu^2), mu and v those of the base.

    References:
        Lambert (1992), Technometrics 34, 1-14.
    """

    name = "zero_inflated"
    links: tuple[str, ...] = ("log",)
    zi = "logit_zero"
    wraps: ClassVar[bool] = True

    def __init__(self, link: str | None = None, base: str | Family = "poisson") -> None:
        self.base = find(base, link)
        if self.base.support not in ("counts", "trials"):
            raise ValueError(
                f"family 'zero_inflated' needs a base of counts, not {self.base.name!r}; zeros "
                "beside positive outcomes are family='hurdle_gamma' or 'hurdle_lognormal', beside "
                "proportions family='ordered_beta'"
            )
        self.name = f"zero_inflated_{self.base.name}"
        self.links, self.link = self.base.links, self.base.link
        self.extra = (*self.base.extra, "logit_zero")
        self.dispersion, self.support = self.base.dispersion, self.base.support

    def options(self) -> dict[str, Any]:
        return self.base.options()

    def read(
        self, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return read_as(self.name, self.base, y, trials, weights)

    def log_density(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        plain = data._replace(weights=torch.ones_like(data.weights))
        counted = logsigmoid(-extra[-1]) + self.base.log_density(plain, eta, extra[:-1])
        # log(z + (1 - z) f): logaddexp has no second derivative where one part vanishes
        structural = logsigmoid(extra[-1])
        zero = structural + softplus(counted - structural, threshold=40.0)
        return data.weights * torch.where(data.y > 0, counted, zero)

    def distribution(
        self, data: Observations, eta: Tensor, extra: Extra
    ) -> tuple[Tensor, Tensor] | None:
        known = self.base.distribution(data, eta, extra[:-1])
        if known is None:
            return None
        below, up_to = (torch.sigmoid(extra[-1]) + torch.sigmoid(-extra[-1]) * p for p in known)
        return torch.where(data.y > 0, below, 0.0), up_to

    def mean(self, eta: Tensor, extra: Extra) -> Tensor:
        return torch.sigmoid(-extra[-1]) * self.base.mean(eta, extra[:-1])

    def mean_slope(self, eta: Tensor, extra: Extra) -> Tensor:
        return torch.sigmoid(-extra[-1]) * self.base.mean_slope(eta, extra[:-1])

    def predictor(self, mean: Tensor, extra: Extra) -> Tensor:
        return self.base.predictor(mean / torch.sigmoid(-extra[-1]), extra[:-1])

    @property
    def multiplicative(self) -> bool:
        return self.base.multiplicative

    def edges(self) -> tuple[tuple[str, Family], ...]:
        inner = tuple((name, ZeroInflated(base=base)) for name, base in self.base.edges())
        return (("logit_zero", self.base), *inner)

    @property
    def mean_link(self) -> Link:
        return self.base.mean_link

    def variance(self, eta: Tensor, data: Observations, extra: Extra) -> Tensor:
        plain = data._replace(weights=torch.ones_like(data.weights))
        v, mu = self.base.variance(eta, plain, extra[:-1]), self.base.mean(eta, extra[:-1])
        inner = v + torch.sigmoid(extra[-1]) * mu.square()
        return torch.sigmoid(-extra[-1]) * inner / data.weights

    def simulate(
        self, eta: Tensor, data: Observations, extra: Extra, generator: torch.Generator
    ) -> Tensor:
        y = self.base.simulate(eta, data, extra[:-1], generator)
        return torch.where(uniform(y, generator) < torch.sigmoid(extra[-1]), 0.0, y)

    def start_extra(self, data: Observations, mu: Tensor) -> Tensor:
        inner = self.base.start_extra(data, mu)
        none = data._replace(y=torch.zeros_like(data.y), weights=torch.ones_like(data.weights))
        by_chance = torch.exp(self.base.log_density(none, self.base.link.forward(mu), inner)).mean()
        zeros = (data.y == 0).to(mu.dtype).mean()
        share = (zeros - by_chance) / (1 - by_chance).clamp(min=1e-3)
        return torch.cat([inner, torch.logit(share.clamp(0.05, 0.9)).reshape(1)])

    def start_mean(self, data: Observations) -> Tensor:
        return self.base.start_mean(data)
