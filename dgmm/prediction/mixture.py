"""Predictive distributions that are normal given theta, where theta is an estimate.

Given theta the target is N{m(theta), v(theta)}. With theta-hat ~ N(theta, V) it is, to first order,

    m + (c / tau) z + {s^2 - c^2 / tau^2 + v exp(delta + tau^2 / 2 + tau z)}^(1/2) e

with z and e independent N(0, 1) and

    s^2   = var m(theta-hat) = J V J',  J = dm / dtheta: coefficients, and the variances in E(b | y)
    tau^2 = var log v(theta-hat) = g V g',  g = d log v / dtheta,    c = J V g'
    delta = what log v loses because beta was estimated too: nothing under REML, else g V h',
            h = d 1/2 log |C| / dtheta, C = (sum X'V^-1X)^-1, one step from ML to REML

s^2 is the second term of the mean squared error of an EBLUP, v the first one. That v is an
estimate is what the third one stands for: z carries it, and tau^2 / 2 is the skewness of the
distribution of a variance. Where v alone is unknown the mixture is a t with Satterthwaite's
nu = 2 / tau^2 degrees of freedom, up to terms in nu^-2. tau^2 and delta are at most 1/2 (nu = 4):
near a variance of zero the normal distribution of its logarithm means nothing.

References:
    Kackar and Harville (1984), J. American Statistical Association 79, 853-862; Prasad and Rao
    (1990), J. American Statistical Association 85, 163-171; Satterthwaite (1946), Biometrics
    Bulletin 2, 110-114.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgmm.numerics.quadrature import normal_rule

__all__ = ["MOST", "Mixture", "Moves", "inverse_of"]

POINTS = 15
"""Gauss-Hermite nodes of z."""

MOST = 0.5
"""Largest tau^2, and delta."""

STEPS = 30
"""Newton steps for a quantile, of which a few are needed."""


def inverse_of(covariance: Tensor) -> Tensor:
    """The inverse of a covariance (R, R) over the parameters that vary."""
    size = covariance.diagonal().sqrt()
    scale = torch.where(size > 0, 1 / size, 0.0)
    inverse = torch.linalg.pinv(scale[:, None] * covariance * scale, rtol=1e-10, hermitian=True)
    return scale[:, None] * inverse * scale


@dataclass(frozen=True)
class Moves:
    """How mean and variance of the target move with the reported parameters r of theta-hat."""

    error: Tensor  # (N,) s, of everything that is estimated
    with_theta: Tensor  # (N, R) covariance of m and r
    slope: Tensor  # (N, R) d log v / d r
    joint: Tensor  # (R, R) covariance of r
    lost: Tensor  # (N,) delta

    @classmethod
    def none(cls, size: int) -> Moves:
        """Of a theta that is known."""
        nothing, no_columns = torch.zeros(size), torch.zeros(size, 0)
        found = (nothing, no_columns, no_columns, torch.zeros(0, 0), nothing)
        return cls(*(one.double() for one in found))

    @property
    def spread(self) -> Tensor:
        """tau^2, (N,)."""
        return ((self.slope @ self.joint) * self.slope).sum(1).clamp(min=0.0)

    @property
    def covariance(self) -> Tensor:
        """c, (N,)."""
        return (self.with_theta * self.slope).sum(1)

    @property
    def held(self) -> Tensor:
        """The share of tau^2 that is used, as a factor of tau, (N,)."""
        return (MOST / self.spread.clamp(min=MOST)).sqrt()

    def follow(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """What a step (R,) of r does: an addition to m and a factor of the deviations from m."""
        inverse = inverse_of(self.joint)
        tau2 = self.spread * self.held.square()
        log_variance = self.lost + 0.5 * tau2 + self.held * (self.slope @ step)
        return self.with_theta @ (inverse @ step), (0.5 * log_variance).exp()

    @property
    def rest(self) -> Tensor:
        """Standard deviation of m(theta-hat) that r does not account for, (N,)."""
        inverse = inverse_of(self.joint)
        told = ((self.with_theta @ inverse) * self.with_theta).sum(1)
        return (self.error.square() - told).clamp(min=0.0).sqrt()


@dataclass(frozen=True)
class Mixture:
    """The distribution of the module, row by row."""

    centre: Tensor  # (N,) m
    of_theta: Tensor  # (N,) s^2
    own: Tensor  # (N,) v
    spread: Tensor  # (N,) tau^2
    covariance: Tensor  # (N,) c
    lost: Tensor  # (N,) delta

    @classmethod
    def of(cls, centre: Tensor, own: Tensor, moves: Moves) -> Mixture:
        """Mean and variance at theta-hat, (N,) each, and how they move."""
        s2 = moves.error.square()
        return cls(centre, s2, own, moves.spread, moves.covariance, moves.lost)

    def through(self, centre: Tensor, slope: Tensor, of_theta: Tensor) -> Mixture:
        """Of a function of the target with its value at m, its slope there and its own s^2."""
        own, c = slope.square() * self.own, slope * self.covariance
        return Mixture(centre, of_theta, own, self.spread, c, self.lost)

    @property
    def sd(self) -> Tensor:
        """(s^2 + v)^(1/2), the first two terms, (N,)."""
        return (self.of_theta + self.own).sqrt()

    def interval(self, level: float) -> Tensor:
        """The quantiles that leave (1 - level) / 2 on either side, (N, 2)."""
        tail = (1 - level) / 2
        return torch.stack([self._quantile(tail), self._quantile(1 - tail)], dim=1)

    def _quantile(self, p: float) -> Tensor:
        """By Newton on the probit scale, where the distribution is almost a line."""
        z, weight = normal_rule(POINTS)
        tau = self.spread.sqrt()
        along = torch.where(tau > 0, self.covariance / tau.clamp(min=1e-300), 0.0)
        along = along.sign() * torch.minimum(along.abs(), self.of_theta.sqrt())
        tau = tau.clamp(max=MOST**0.5)
        grown = self.lost + 0.5 * tau.square() + tau * z
        sd = (self.of_theta - along.square() + self.own * grown.exp()).clamp(min=0.0).sqrt()
        size = torch.where(self.sd > 0, self.sd, 1.0)
        mean, sd = along * z / size, sd / size  # in units of size about m
        sd = torch.where(self.sd > 0, sd.clamp(min=1e-6), 1.0)
        wanted = float(torch.special.ndtri(torch.tensor(p, dtype=torch.float64)))
        q = torch.full_like(size, wanted)
        for _ in range(STEPS):
            standard = (q - mean) / sd
            reached = torch.special.ndtri((weight * torch.special.ndtr(standard)).sum(0))
            density = (weight * (-0.5 * standard.square()).exp() / sd).sum(0)
            slope = density * (0.5 * reached.square()).exp()
            step = ((wanted - reached) / slope).clamp(-1.0, 1.0)
            q = q + step
            if bool((step.abs() < 1e-12).all()):
                break
        return self.centre + self.sd * q
