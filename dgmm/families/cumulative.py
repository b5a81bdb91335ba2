"""Cumulative family: ordered categories."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from dgmm.families.base import Extra, Family, Observations, refuse
from dgmm.families.draws import uniform
from dgmm.families.inverse import solve_increasing
from dgmm.families.links import LINKS, Link, between
from dgmm.families.special import log1mexp, log_ndtr
from dgmm.runtime.listing import listed

__all__ = ["Cumulative"]


class Cumulative(Family):
    """P(y <= k) = F(c_k - eta) with thresholds c_1 < ... < c_{K-1} and F the inverse link.

    The extra parameters are c_1 and the logarithms of the K - 2 steps; reported are the thresholds.
    They take the place of the fixed intercept. Outcomes are K consecutive whole numbers, or the
    labels of ordered categories, which are numbered 1, ..., K unless they are such numbers
    themselves; E(y) is the expected number. A threshold is named by the categories beside it.

    References:
        McCullagh (1980), J. Royal Statistical Society B 42, 109-142.
    """

    name = "cumulative"
    links = ("logit", "probit", "cloglog")
    support = "ordered"
    intercept: ClassVar[bool] = False
    threshold = True

    def __init__(
        self,
        link: str | None = None,
        categories: int | None = None,
        first: int = 0,
        labels: Sequence[Any] = (),
    ) -> None:
        super().__init__(link)
        self.categories, self.first, self.labels = categories, first, tuple(labels)
        self.scores: tuple[float, ...] = tuple(range(first, first + (categories or 0)))
        if categories is not None:
            steps = (f"log_step{k}" for k in range(2, categories))
            self.extra = ("threshold1", *steps)

    def fitted_to(self, y: np.ndarray, labels: tuple[Any, ...] = ()) -> Cumulative:
        self._whole(y)
        seen = np.unique(y)
        first, last = int(seen[0]), int(seen[-1])
        if len(seen) < 2 or len(seen) != last - first + 1:
            raise ValueError(
                f"family 'cumulative' needs at least two consecutive categories, found "
                f"{listed(f'{v:g}' for v in seen)}; number the observed ones without a gap"
            )
        return Cumulative(self.link.name, len(seen), first, labels)

    def options(self) -> dict[str, object]:
        return {
            "link": self.link.name,
            "categories": self.categories,
            "first": self.first,
            "labels": self.labels,
        }

    @property
    def category_names(self) -> tuple[str, ...]:
        """The categories from low to high, as text: their labels, or their numbers."""
        assert self.categories is not None
        return tuple(map(str, self.labels or range(self.first, self.first + self.categories)))

    def read(
        self, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        y, trials, weights = self.per_trial(y, trials, weights)
        self._whole(y)
        if self.categories is not None:
            last = self.first + self.categories - 1
            message = f"family 'cumulative' has categories {self.first} to {last}"
            refuse((y < self.first) | (y > last), y, message)
        return y, trials, weights

    def _whole(self, y: np.ndarray) -> None:
        refuse(
            (y != np.round(y)) | (np.abs(y) > 1000),
            y,
            "family 'cumulative' needs categories numbered by consecutive whole numbers",
            "For a continuous outcome between bounds use family='ordered_beta'.",
        )

    def _thresholds(self, extra: Extra) -> Tensor:
        """c_1, ..., c_{K-1} along the first axis."""
        steps = torch.cat([extra[:1], torch.exp(extra[1:])])
        return torch.cumsum(steps, dim=0)

    def comparisons(self, X: Tensor, data: Observations) -> tuple[Tensor, Tensor, Tensor]:
        """Category k, of 0, ..., K - 1, says c_k < x'beta and x'beta < c_{k+1}."""
        assert self.categories is not None
        category = (data.y - self.first).long()
        columns = torch.eye(self.categories - 1, dtype=X.dtype)
        above, below = category > 0, category < self.categories - 1
        rows = torch.cat(
            [
                torch.cat([X[above], -columns[category[above] - 1]], dim=1),
                torch.cat([-X[below], columns[category[below]]], dim=1),
            ]
        )
        greatest = torch.ones(len(rows), dtype=torch.bool)
        return rows, ~greatest, greatest

    def log_density(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        return data.weights * self._log_share(data.y - self.first, eta, extra)

    def _log_share(self, category: Tensor, eta: Tensor, extra: Extra) -> Tensor:
        """log P(y = category), categories from 0."""
        assert self.categories is not None
        thresholds, last = self._thresholds(extra), self.categories - 1
        value = torch.where(
            category < 1, _log_below(self.link, thresholds[0] - eta), torch.zeros_like(eta)
        )
        value = torch.where(
            category >= last, _log_above(self.link, thresholds[last - 1] - eta), value
        )
        for k in range(1, last):
            middle = _log_between(self.link, thresholds[k - 1] - eta, torch.exp(extra[k]))
            value = torch.where(category == k, middle, value)
        return value

    def _exceed(self, eta: Tensor, extra: Extra) -> list[Tensor]:
        """P(y > k), k = 1, ..., K - 1."""
        return [torch.exp(_log_above(self.link, c - eta)) for c in self._thresholds(extra)]

    def scored(self, scores: Sequence[float]) -> Cumulative:
        """The family whose mean is E{s(y)}, s_1, ..., s_K in place of the numbers of categories."""
        other = copy(self)
        other.scores = tuple(scores)
        return other

    def _steps(self) -> list[tuple[float, int]]:
        """s_{k+1} - s_k where it is not zero, with k from 0."""
        return [(b - a, k) for k, (a, b) in enumerate(pairwise(self.scores)) if a != b]

    def mean(self, eta: Tensor, extra: Extra) -> Tensor:
        exceed = self._exceed(eta, extra)
        return self.scores[0] + torch.stack([s * exceed[k] for s, k in self._steps()]).sum(0)

    def mean_slope(self, eta: Tensor, extra: Extra) -> Tensor:
        thresholds = self._thresholds(extra)
        slopes = [s * self.link.derivative(thresholds[k] - eta) for s, k in self._steps()]
        return torch.stack(slopes).sum(0)

    def predictor(self, mean: Tensor, extra: Extra) -> Tensor:
        return solve_increasing(
            lambda eta: self.mean(eta, extra), lambda eta: self.mean_slope(eta, extra), mean
        )

    @property
    def mean_link(self) -> Link:
        return between(min(self.scores), max(self.scores))

    def distribution(
        self, data: Observations, eta: Tensor, extra: Extra
    ) -> tuple[Tensor, Tensor] | None:
        exceed = torch.stack(self._exceed(eta, extra))
        ends = torch.cat([torch.ones_like(exceed[:1]), exceed, torch.zeros_like(exceed[:1])])
        category = (data.y - self.first).long().expand(exceed.shape[1:])[None]
        below, up_to = (1 - ends.gather(0, category + step)[0] for step in (0, 1))
        return below, up_to

    def variance(self, eta: Tensor, data: Observations, extra: Extra) -> Tensor:
        exceed = self._exceed(eta, extra)
        mean = torch.stack(exceed).sum(0)
        square = torch.stack([(2 * k + 1) * p for k, p in enumerate(exceed)]).sum(0)
        return (square - mean.square()).clamp(min=1e-12) / data.weights

    def information(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        """sum_k (d P_k / d eta)^2 / P_k, the expected information, at least 1e-10."""
        slopes = [self.link.derivative(c - eta) for c in self._thresholds(extra)]
        ends = [torch.zeros_like(eta), *slopes, torch.zeros_like(eta)]
        total = torch.zeros_like(eta)
        for k in range(len(ends) - 1):
            category = torch.full_like(eta, float(k))
            share = torch.exp(self._log_share(category, eta, extra))
            total = total + (ends[k + 1] - ends[k]).square() / share.clamp(min=1e-150)
        return data.weights * total.clamp(min=1e-10)

    def working_residual(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        return self.score(data, eta, extra) / self.information(data, eta, extra)

    def simulate(
        self, eta: Tensor, data: Observations, extra: Extra, generator: torch.Generator
    ) -> Tensor:
        exceed = self._exceed(eta, extra)
        u = uniform(exceed[0], generator)
        return self.first + torch.stack([(u < p).to(u.dtype) for p in exceed]).sum(0)

    def start_extra(self, data: Observations, mu: Tensor) -> Tensor:
        assert self.categories is not None
        category = data.y - self.first
        shares = [(category <= k).to(mu.dtype).mean() for k in range(self.categories - 1)]
        low = self.link.forward(torch.stack(shares).clamp(0.01, 0.99))
        low = low + self.link.forward(mu.clamp(1e-3, 1 - 1e-3)).mean()
        return torch.cat([low[:1], torch.log(low.diff().clamp(min=0.05))])

    def start_mean(self, data: Observations) -> Tensor:
        # no intercept: eta starts at 0, the thresholds at the frequencies
        return self.link.inverse(torch.zeros_like(data.y))

    def natural(self, extra: Extra) -> Tensor:
        return self._thresholds(extra)

    def natural_names(self) -> tuple[str, ...]:
        return tuple(f"{low}|{high}" for low, high in pairwise(self.category_names))

    def natural_links(self) -> tuple[Link, ...]:
        return tuple(LINKS["identity"] for _ in self.extra)


def _log_below(link: Link, x: Tensor) -> Tensor:
    """log F(x)."""
    return log_ndtr(x) if link.name == "probit" else link.log_mean(x)


def _log_above(link: Link, x: Tensor) -> Tensor:
    """log{1 - F(x)}."""
    if link.name == "probit":
        return log_ndtr(-x)
    assert link.log_complement is not None
    # 1 - F = exp(-e^x) is 0 long before the bound, which keeps e^x finite
    return link.log_complement(x.clamp(max=100.0) if link.name == "cloglog" else x)


def _log_between(link: Link, x: Tensor, step: Tensor) -> Tensor:
    """log{F(x + step) - F(x)}, step > 0."""
    if link.name == "logit":  # F(b) - F(a) = F(b) {1 - F(a)} {1 - e^-(b - a)}
        return link.log_mean(x + step) + link.log_mean(-x) + log1mexp(step)
    if link.name == "cloglog":
        low = x.clamp(max=100.0)
        gap = torch.exp((x + step).clamp(max=100.0) + log1mexp(step))
        return -torch.exp(low) + log1mexp(gap)
    # in the upper tail the mirror image keeps the digits
    mirrored = x > 0
    high = log_ndtr(torch.where(mirrored, -x, x + step))
    low = log_ndtr(torch.where(mirrored, -x - step, x))
    return high + log1mexp(high - low)
