"""What a family must supply, and what follows from it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgmm.families.links import LINKS, Link
from dgmm.registry import suggestion

__all__ = ["Extra", "Family", "Observations"]

Extra = Tensor
"""Extra parameters of a family on the unconstrained scale, shape (len(family.extra),)."""


THRESHOLD = {"logit": math.pi**2 / 3, "probit": 1.0, "cloglog": math.pi**2 / 6}
"""Variance of the standard logistic, normal and extreme value distribution."""


class Observations(NamedTuple):
    """Outcomes with what the density needs beside the linear predictor; equal shapes (..., J)."""

    y: Tensor
    trials: Tensor
    weights: Tensor


class Family(ABC):
    """F(g^-1(eta), sigma): the distribution of y given the random effects.

    A final subclass declares ``name``, ``links`` (the first one is the default) and ``extra``
    (unconstrained names of further parameters, such as ``log_sigma``) and writes five methods.
    Every method broadcasts: ``eta`` may carry draws in front, shape (M, n, J).
    """

    name: ClassVar[str]
    links: ClassVar[tuple[str, ...]]
    extra: ClassVar[tuple[str, ...]] = ()
    threshold: ClassVar[bool] = False  # y says whether a latent variable exceeds a threshold

    def __init__(self, link: str | None = None) -> None:
        word = link or self.links[0]
        if word not in self.links:
            raise ValueError(
                f"family {self.name!r} has no link {word!r}{suggestion(word, self.links)} "
                f"Available: {', '.join(self.links)}."
            )
        self.link: Link = LINKS[word]

    @abstractmethod
    def read(
        self, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Observed outcomes, trials and weights as the family counts them.

        Raises ValueError in words when an outcome is impossible under the family.
        """

    @abstractmethod
    def log_density(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        """log p(y | eta, extra), prior weights included, elementwise."""

    @abstractmethod
    def variance(self, mu: Tensor, data: Observations, extra: Extra) -> Tensor:
        """var(y | mu) of the outcome as a mean (a proportion for binomial counts)."""

    @abstractmethod
    def simulate(
        self, eta: Tensor, data: Observations, extra: Extra, generator: torch.Generator
    ) -> Tensor:
        """One draw of y for every entry of eta."""

    @abstractmethod
    def start_extra(self, data: Observations, mu: Tensor) -> Tensor:
        """Starting values of ``extra`` given pilot means."""

    @abstractmethod
    def start_mean(self, data: Observations) -> Tensor:
        """A pilot mean for every row, inside the range of g."""

    def mean(self, eta: Tensor) -> Tensor:
        """E(y | eta) = g^-1(eta); for counts out of trials, the probability."""
        return self.link.inverse(eta)

    def response(self, data: Observations) -> Tensor:
        """The outcome on the scale of its mean (y, or y / trials)."""
        return data.y / data.trials

    def information(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        """Expected information in eta, (d mu / d eta)^2 / var(y): the weight of Fisher scoring."""
        mu, slope = self.link.inverse(eta), self.link.derivative(eta)
        return slope.square() / self.variance(mu, data, extra)

    def working_residual(self, data: Observations, eta: Tensor) -> Tensor:
        """(y - mu) / (d mu / d eta): the residual on the scale of eta."""
        slope = self.link.derivative(eta)
        # a flat link (|eta| large) leaves no information on this scale; the sign keeps the side
        safe = torch.where(slope.abs() < 1e-10, torch.where(slope < 0, -1e-10, 1e-10), slope)
        return (self.response(data) - self.link.inverse(eta)) / safe

    def link_variance(
        self, mu: Tensor, data: Observations, extra: Extra, form: str = "lognormal"
    ) -> Tensor:
        """var(y | mu) carried to the scale of eta: the residual variance in R2 and ICC.

        A threshold family has that of its latent variable: pi^2 / 3 (logit), 1 (probit), pi^2 / 6
        (cloglog). Otherwise var(y | mu) (d eta / d mu)^2 by the delta method; under a log link,
        with r = var(y | mu) / mu^2, by ``form`` "lognormal" log(1 + r), "trigamma" psi_1(1 / r), or
        "delta" r. Nakagawa, Johnson and Schielzeth (2017), J. Royal Society Interface 14: 20170213.
        """
        if self.threshold:
            return torch.full_like(mu, THRESHOLD[self.link.name])
        spread = self.variance(mu, data, extra)
        if self.link.name == "log" and form != "delta":
            ratio = spread / mu.square()
            return torch.log1p(ratio) if form == "lognormal" else torch.polygamma(1, 1 / ratio)
        return spread / self.link.derivative(self.link.forward(mu)).square()

    def per_trial(
        self, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """y / trials out of one trial: how a family without trials reads a response `a / b`."""
        return y / trials, np.ones_like(trials), weights

    def __repr__(self) -> str:
        return f"{self.name}(link={self.link.name!r})"
