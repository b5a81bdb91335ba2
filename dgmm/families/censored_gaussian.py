"""Censored Gaussian family (tobit): values beyond the bounds are recorded at them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dgmm.families.base import Extra, Family, Observations, refuse
from dgmm.families.inverse import solve_increasing
from dgmm.families.naming import Bounds
from dgmm.families.special import log_ndtr

__all__ = ["CensoredGaussian"]

FARTHEST = (-40.0, 40.0)
"""Of eta from a mean between the bounds, in standard deviations."""


class CensoredGaussian(Family):
    """y = min{max(y*, lower), upper}, y* ~ N(eta, sigma^2).

    log p = log Phi{(lower - eta) / sigma} at the lower bound, log Phi{(eta - upper) / sigma} at the
    upper one, the Gaussian log-density in between. The mean is that of the recorded y. Either bound
    may be None (or infinite); by default outcomes are censored at 0 from below.

    References:
        Tobin (1958), Econometrica 26, 24-36.
    """

    name = "censored_gaussian"
    links = ("identity",)
    extra = ("log_sigma",)
    dispersion = "log_sigma"
    bounded = True
    censors = True

    def __init__(self, link: str | None = None, bounds: Bounds | None = None) -> None:
        super().__init__(link)
        lower, upper = (0.0, None) if bounds is None else bounds
        ends = (-np.inf if lower is None else lower, np.inf if upper is None else upper)
        if not ends[0] < ends[1]:
            raise ValueError(
                f"family {self.name!r} needs bounds=(lower, upper) with lower < upper, either of "
                f"them None, found bounds={bounds!r}"
            )
        self.bounds: Bounds = tuple(float(e) if np.isfinite(e) else None for e in ends)  # type: ignore[assignment]

    def options(self) -> dict[str, object]:
        return {"link": self.link.name, "bounds": self.bounds}

    def read(
        self, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        y, trials, weights = self.per_trial(y, trials, weights)
        lower, upper = self._ends()
        message = f"family {self.name!r} needs outcomes from {lower:g} to {upper:g}"
        refuse((y < lower) | (y > upper), y, message, "Record censored values at the bound.")
        return y, trials, weights

    @property
    def atoms(self) -> tuple[float, ...]:
        return tuple(end for end in self.bounds if end is not None)

    def extremes(self, data: Observations) -> tuple[Tensor, Tensor] | None:
        y, (lower, upper) = self.response(data), self._ends()
        return y <= lower, y >= upper

    def without_residual(self, data: Observations) -> Tensor | None:
        y, (lower, upper) = self.response(data), self._ends()
        return torch.where((y > lower) & (y < upper), y, torch.nan)

    def _ends(self) -> tuple[float, float]:
        lower, upper = self.bounds
        return -np.inf if lower is None else lower, np.inf if upper is None else upper

    def _scaled(self, eta: Tensor, extra: Extra) -> tuple[Tensor, Tensor]:
        """(lower - eta) / sigma and (upper - eta) / sigma; no bound is 1e6 of them away."""
        scale = torch.exp(-extra[0])
        lower, upper = self.bounds
        none = torch.full_like(eta, 1e6)
        return (
            -none if lower is None else (lower - eta) * scale,
            none if upper is None else (upper - eta) * scale,
        )

    def log_density(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        y, (lower, upper) = self.response(data), self._ends()
        a, b = self._scaled(eta, extra)
        z = (y - eta) * torch.exp(-extra[0])
        seen = -0.5 * z.square() - extra[0] - 0.5 * math.log(2 * math.pi)
        censored = torch.where(y <= lower, log_ndtr(a), log_ndtr(-b))
        return data.weights * torch.where((y > lower) & (y < upper), seen, censored)

    def distribution(
        self, data: Observations, eta: Tensor, extra: Extra
    ) -> tuple[Tensor, Tensor] | None:
        y, (lower, upper) = self.response(data), self._ends()
        p = torch.special.ndtr((y - eta) * torch.exp(-extra[0]))
        return torch.where(y <= lower, 0.0, p), torch.where(y >= upper, 1.0, p)

    def mean(self, eta: Tensor, extra: Extra) -> Tensor:
        return self._moments(eta, extra)[0]

    def mean_slope(self, eta: Tensor, extra: Extra) -> Tensor:
        a, b = self._scaled(eta, extra)
        return torch.special.ndtr(b) - torch.special.ndtr(a)

    def predictor(self, mean: Tensor, extra: Extra) -> Tensor:
        sigma = torch.exp(extra[0])  # solved for z = (eta - mean) / sigma, of any unit
        z = solve_increasing(
            lambda z: self.mean(mean + sigma * z, extra) / sigma,
            lambda z: self.mean_slope(mean + sigma * z, extra),
            mean / sigma,
            *FARTHEST,
        )
        return mean + sigma * z

    def observation_variance(self, eta: Tensor, extra: Extra, form: str = "lognormal") -> Tensor:
        """sigma^2, the variance of y* about eta: of the variable that is censored."""
        return torch.exp(2 * extra[0]) + torch.zeros_like(eta)

    def observation_formula(self, form: str = "lognormal") -> str:
        return "sigma^2"

    def _moments(self, eta: Tensor, extra: Extra) -> tuple[Tensor, Tensor]:
        """E(y) and E{(y - eta)^2} of the recorded outcome."""
        a, b = self._scaled(eta, extra)
        sigma = torch.exp(extra[0])
        low, high = torch.special.ndtr(a), torch.special.ndtr(-b)
        da, db = _density(a), _density(b)
        first = a * low + b * high + da - db
        second = a.square() * low + b.square() * high
        return eta + sigma * first, sigma.square() * (second + 1 - low - high + a * da - b * db)

    def variance(self, eta: Tensor, data: Observations, extra: Extra) -> Tensor:
        mean, square = self._moments(eta, extra)
        return (square - (mean - eta).square()).clamp(min=1e-12) / data.weights

    def information(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        """The expected information, at least 1e-10 / sigma^2 where everything is censored."""
        a, b = self._scaled(eta, extra)
        da, db = _density(a), _density(b)
        seen = torch.special.ndtr(b) - torch.special.ndtr(a) + a * da - b * db
        censored = da * torch.exp(_log_density(a) - log_ndtr(a)) + db * torch.exp(
            _log_density(b) - log_ndtr(-b)
        )
        return data.weights * torch.exp(-2 * extra[0]) * (seen + censored).clamp(min=1e-10)

    def working_residual(self, data: Observations, eta: Tensor, extra: Extra) -> Tensor:
        return self.score(data, eta, extra) / self.information(data, eta, extra)

    def simulate(
        self, eta: Tensor, data: Observations, extra: Extra, generator: torch.Generator
    ) -> Tensor:
        noise = torch.randn(eta.shape, generator=generator, dtype=eta.dtype)
        lower, upper = self._ends()
        return (eta + torch.exp(extra[0]) * noise).clamp(lower, upper)

    def start_extra(self, data: Observations, mu: Tensor) -> Tensor:
        residual = self.response(data) - mu
        if float(residual.abs().max()) < 1e-8 * float(data.y.std(correction=0)):
            residual = data.y - data.y.mean()
        return 0.5 * torch.log(residual.square().mean().clamp(min=1e-300)).reshape(1)

    def start_mean(self, data: Observations) -> Tensor:
        return self.response(data)


def _log_density(x: Tensor) -> Tensor:
    return -0.5 * x.square() - 0.5 * math.log(2 * math.pi)


def _density(x: Tensor) -> Tensor:
    return torch.exp(_log_density(x))
