"""Hurdle families: zeros by one process, positive outcomes by a family cut off at zero."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from dgmm.families.base import Extra, Family, Observations, OutcomeError, slope_of
from dgmm.families.draws import uniform
from dgmm.families.inverse import solve_increasing
from dgmm.families.links import LINKS, Link
from dgmm.families.naming import find
from dgmm.families.special import log1mexp
from dgmm.families.zero_inflated import read_as

__all__ = ["Hurdle"]

REJECTIONS = 64
MOST_TERMS = 10_000
LOG_MEANS = (-30.0, 40.0)  # of a count family


class Hurdle(Family):
    """P(0) = z, p(y) = (1 - z) f(y) / {1 - f(0)} for y > 0, f the base family.

    z is the probability of zero, reported as ``zero``. Over a count family f is cut off at zero;
    over a positive family (gamma, lognormal) f(0) = 0. E(y) = (1 - z) mu / {1 - f(0)}.

    References:
        Mullahy (1986), J. Econometrics 33, 341-365.
    """

    name = "hurdle"
    links: tuple[str, ...] = ("log",)
    zi = "logit_zero"
    wraps: ClassVar[bool] = True

    def __init__(self, link: str | None = None, base: str | Family = "poisson") -> None:
        self.base = find(base, link)
        if self.base.support not in ("counts", "positive"):
            raise ValueError(
                f"family 'hurdle' needs a base of counts or positive outcomes, not "
                f"{self.base.name!r}; for example 'hurdle_poisson' or 'hurdle_gamma'"
            )
        self.name = f"hurdle_{self.base.name}"
        self.links, self.link = self.base.links, self.base.link
        self.extra = (*self.base.extra, "logit_zero")
        self.dispersion, self.support = self.base.dispersion, self.base.support

    def options(self) -> dict[str, Any]:
        return self.base.options()

    def read(
        self, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        y, trials, weights = self.per_trial(y, trials, weights)
        rows = y != 0
        try:
            read_as(self.name, self.base, y[rows], trials[rows], weights[rows])
        except OutcomeError as error:
            raise OutcomeError(error.message, int(np.flatnonzero(rows)[error.row])) from None
        return y, trials, weights

    @property
    def atoms(self) -> tuple[float, ...]:
        return (0.0,) if self.base.support == "positive" else ()

    def extremes(self, data: Observations) -> tuple[Tensor, Tensor] | None:
        """The least count beyond the hurdle is one; zeros say nothing about eta."""
        if self.base.support == "positive":
            return None
        return data.y <= 1, data.y == 0

    def without_residual(self, data: Observations) -> Tensor | None:
        eta = super().without_residual(data)
        return None if eta is None else torch.where(data.y > 0, eta, torch.nan)

    def log_density(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        y, ones = data.y, torch.ones_like(data.weights)
        some = data._replace(y=torch.where(y > 0, y, torch.ones_like(y)), weights=ones)
        positive = logsigmoid(-extra[-1]) + self.base.log_density(some, eta, extra[:-1])
        positive = positive - self._log_positive(some, eta, extra)
        return data.weights * torch.where(y > 0, positive, logsigmoid(extra[-1]))

    def _log_positive(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        """log{1 - f(0)}."""
        if self.base.support == "positive":
            return torch.zeros_like(eta)
        none = data._replace(y=torch.zeros_like(data.y), weights=torch.ones_like(data.weights))
        return log1mexp(-self.base.log_density(none, eta, extra[:-1]))

    def _kept(self, eta: Tensor, extra: Extra) -> Tensor:
        """(1 - z) / {1 - f(0)}."""
        one = torch.ones((), dtype=eta.dtype)
        data = Observations(one, one, one)
        return torch.exp(logsigmoid(-extra[-1]) - self._log_positive(data, eta, extra))

    def distribution(
        self, data: Observations, eta: Tensor, extra: Extra
    ) -> tuple[Tensor, Tensor] | None:
        some = data._replace(y=torch.where(data.y > 0, data.y, torch.ones_like(data.y)))
        known = self.base.distribution(some, eta, extra[:-1])
        if known is None:
            return None
        none, zero = data._replace(y=torch.zeros_like(data.y)), torch.sigmoid(extra[-1])
        least = torch.zeros_like(eta)
        if self.base.support == "counts":
            least = torch.exp(self.base.log_density(none, eta, extra[:-1]))
        kept = torch.exp(logsigmoid(-extra[-1]) - self._log_positive(some, eta, extra))
        below, up_to = (zero + kept * (p - least) for p in known)
        return torch.where(data.y > 0, below, 0.0), torch.where(data.y > 0, up_to, zero)

    def mean(self, eta: Tensor, extra: Extra) -> Tensor:
        return self._kept(eta, extra) * self.base.mean(eta, extra[:-1])

    def mean_slope(self, eta: Tensor, extra: Extra) -> Tensor:
        return slope_of(lambda point: self.mean(point, extra), eta, extra)

    def predictor(self, mean: Tensor, extra: Extra) -> Tensor:
        positive = mean / torch.sigmoid(-extra[-1])
        if self.base.support == "positive":
            return self.base.predictor(positive, extra[:-1])
        # a mean cut off at zero is at least 1; solved for the logarithm of the mean of f
        held = extra[:-1]

        def eta(log_mean: Tensor) -> Tensor:
            return self.base.predictor(torch.exp(log_mean), held)

        def slope(log_mean: Tensor) -> Tensor:
            return slope_of(lambda point: self.mean(eta(point), extra), log_mean, extra)

        return eta(
            solve_increasing(
                lambda log_mean: self.mean(eta(log_mean), extra), slope, mean, *LOG_MEANS
            )
        )

    @property
    def multiplicative(self) -> bool:
        return self.base.multiplicative

    def observation_formula(self, form: str = "lognormal") -> str:
        plain = super().observation_formula(form)
        bent = self.multiplicative and form != "delta" and self.base.support == "counts"
        return f"{plain} / {{d log E(y) / d eta}}^2" if bent else plain

    @property
    def mean_link(self) -> Link:
        return LINKS["log"]

    def variance(self, eta: Tensor, data: Observations, extra: Extra) -> Tensor:
        plain = data._replace(weights=torch.ones_like(data.weights))
        v, mu = self.base.variance(eta, plain, extra[:-1]), self.base.mean(eta, extra[:-1])
        kept = self._kept(eta, extra)
        # kept (v + mu^2) - (kept mu)^2
        return (kept * (v + (1 - kept) * mu.square())).clamp(min=1e-12) / data.weights

    def simulate(
        self, eta: Tensor, data: Observations, extra: Extra, generator: torch.Generator
    ) -> Tensor:
        y = self.base.simulate(eta, data, extra[:-1], generator)
        if self.base.support == "counts":
            y = self._positive(y, eta, data, extra, generator)
        return torch.where(uniform(y, generator) < torch.sigmoid(extra[-1]), 0.0, y)

    def _positive(
        self, y: Tensor, eta: Tensor, data: Observations, extra: Extra, generator: torch.Generator
    ) -> Tensor:
        """Draws again where y = 0: by rejection, and by inversion where a zero is all but sure."""
        for _ in range(REJECTIONS):
            if bool((y > 0).all()):
                return y
            again = self.base.simulate(eta, data, extra[:-1], generator)
            y = torch.where(y > 0, y, again)
        one = torch.ones((), dtype=eta.dtype)
        plain = Observations(one, one, one)
        left = uniform(y, generator).log() + self._log_positive(plain, eta, extra)
        left, open_rows, k = left.exp(), y == 0, 1.0
        while bool(open_rows.any()) and k < MOST_TERMS:
            at = plain._replace(y=torch.full_like(one, k))
            left = left - torch.exp(self.base.log_density(at, eta, extra[:-1]))
            done = open_rows & (left <= 0)
            y, open_rows, k = torch.where(done, k, y), open_rows & ~done, k + 1
        return torch.where(open_rows, k, y)

    def start_extra(self, data: Observations, mu: Tensor) -> Tensor:
        zeros = (data.y == 0).to(mu.dtype).mean().clamp(0.01, 0.99)
        some = (data.y > 0) | (self.base.support == "counts")
        if not bool(some.any()):  # no outcome to learn from
            data, some = data._replace(y=torch.ones_like(data.y)), ~some
        inner = Observations(*(column[some] for column in data))
        return torch.cat([self.base.start_extra(inner, mu[some]), torch.logit(zeros).reshape(1)])

    def start_mean(self, data: Observations) -> Tensor:
        y = data.y
        centre = y[y > 0].mean() if bool((y > 0).any()) else torch.ones((), dtype=y.dtype)
        return self.base.start_mean(data._replace(y=torch.where(y > 0, y, centre)))
