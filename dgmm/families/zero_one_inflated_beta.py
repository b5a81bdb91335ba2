"""Zero-one-inflated beta family: the ends of an interval come about by processes of their own."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from dgmm.families.base import Extra, Observations
from dgmm.families.beta import Beta
from dgmm.families.draws import uniform
from dgmm.families.interval import OnInterval
from dgmm.families.naming import Bounds

__all__ = ["ZeroOneInflatedBeta"]


class ZeroOneInflatedBeta(OnInterval):
    """P(y at an end) = e,  P(y = upper | at an end) = h,  beta density of mean g^-1(eta) inside.

    Reported are ``precision``, ``ends`` (e, which zi= models) and ``upper`` (h, which oi= models).
    eta is that of the outcomes inside alone: without those formulas what happens at the ends is the
    same for everybody, and the likelihood is a product of three. Where one tendency moves outcomes
    and ends alike, ``ordered_beta`` says so with fewer parameters.

    E(y) = e {lower + h (upper - lower)} + (1 - e) m, m the mean of the beta density.

    References:
        Ospina and Ferrari (2010), Statistical Papers 51, 111-126.
    """

    name = "zero_one_inflated_beta"
    links = Beta.links
    extra = ("log_precision", "logit_ends", "logit_upper")
    dispersion = "log_precision"
    zi = "logit_ends"
    oi = "logit_upper"
    closed = True

    def __init__(self, link: str | None = None, bounds: Bounds | None = None) -> None:
        super().__init__(link, bounds)
        self.inside = Beta(link, bounds)

    def _between(self, data: Observations) -> tuple[Tensor, Observations]:
        """Which outcomes lie inside, and all of them with the middle in the place of an end."""
        y, (lower, upper) = self.response(data), self.bounds
        between = (y > lower) & (y < upper)
        middle = torch.full_like(y, 0.5 * (lower + upper))
        one = torch.ones_like(y)
        return between, Observations(torch.where(between, y, middle), one, one)

    def without_residual(self, data: Observations) -> Tensor | None:
        between, held = self._between(data)
        eta = self.inside.without_residual(held)
        assert eta is not None
        return torch.where(between, eta, torch.nan)

    def log_density(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        between, held = self._between(data)
        log_inside = logsigmoid(-extra[1]) + self.inside.log_density(held, eta, extra[:1])
        high = self.response(data) >= self.bounds[1]
        log_end = logsigmoid(extra[1]) + logsigmoid(torch.where(high, extra[2], -extra[2]))
        return data.weights * torch.where(between, log_inside, log_end)

    def distribution(
        self, data: Observations, eta: Tensor, extra: Extra
    ) -> tuple[Tensor, Tensor] | None:
        between, held = self._between(data)
        y, ends, upper = self.response(data), torch.sigmoid(extra[1]), torch.sigmoid(extra[2])
        known = self.inside.distribution(held, eta, extra[:1])
        assert known is not None
        below = known[0]
        inside = ends * (1 - upper) + (1 - ends) * below
        high = y >= self.bounds[1]
        at_end = torch.where(high, 1 - ends * upper, torch.zeros_like(inside))
        up_to_end = torch.where(high, torch.ones_like(inside), ends * (1 - upper) + 0 * inside)
        return torch.where(between, inside, at_end), torch.where(between, inside, up_to_end)

    def mean(self, eta: Tensor, extra: Extra) -> Tensor:
        ends, upper = torch.sigmoid(extra[1]), torch.sigmoid(extra[2])
        inside = self.inside.mean(eta, extra[:1])
        return ends * (self.bounds[0] + self.width * upper) + (1 - ends) * inside

    def mean_slope(self, eta: Tensor, extra: Extra) -> Tensor:
        return torch.sigmoid(-extra[1]) * self.inside.mean_slope(eta, extra[:1])

    def predictor(self, mean: Tensor, extra: Extra) -> Tensor:
        ends, upper = torch.sigmoid(extra[1]), torch.sigmoid(extra[2])
        inside = (mean - ends * (self.bounds[0] + self.width * upper)) / (1 - ends)
        return self.inside.predictor(inside, extra[:1])

    def variance(self, eta: Tensor, data: Observations, extra: Extra) -> Tensor:
        ends, upper = torch.sigmoid(extra[1]), torch.sigmoid(extra[2])
        plain = data._replace(weights=torch.ones_like(data.weights))
        spread = self.inside.variance(eta, plain, extra[:1])
        gap = self.inside.mean(eta, extra[:1]) - self.bounds[0] - self.width * upper
        within = (1 - ends) * spread + ends * self.width**2 * upper * (1 - upper)
        return (within + ends * (1 - ends) * gap.square()) / data.weights

    def information(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        """That of the beta density times the probability of an outcome inside, exact."""
        return torch.sigmoid(-extra[1]) * self.inside.information(data, eta, extra[:1])

    def working_residual(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        return self.score(data, eta, extra) / self.information(data, eta, extra)

    def simulate(
        self, eta: Tensor, data: Observations, extra: Extra, generator: torch.Generator
    ) -> Tensor:
        y = self.inside.simulate(eta, data, extra[:1], generator)
        lower, upper = (torch.full_like(y, end) for end in self.bounds)
        end = torch.where(uniform(y, generator) < torch.sigmoid(extra[2]), upper, lower)
        return torch.where(uniform(y, generator) < torch.sigmoid(extra[1]), end, y)

    def start_extra(self, data: Observations, mu: Tensor) -> Tensor:
        between, held = self._between(data)
        if bool(between.any()):
            kept = Observations(*(column[between] for column in held))
            precision = self.inside.start_extra(kept, mu[between])
        else:
            precision = torch.full((1,), math.log(5.0), dtype=mu.dtype)
        ends = (~between).to(mu.dtype).mean().clamp(0.01, 0.99)
        high = (self.response(data) >= self.bounds[1]).to(mu.dtype).sum() + 0.5
        upper = high / ((~between).to(mu.dtype).sum() + 1)
        return torch.cat([precision, torch.logit(torch.stack([ends, upper]))])

    def start_mean(self, data: Observations) -> Tensor:
        between, held = self._between(data)
        unit = self.inside.start_mean(held)
        centre = unit[between].mean() if bool(between.any()) else unit.mean()
        return torch.where(between, unit, centre)
