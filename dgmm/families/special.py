"""Logarithms of special functions that keep their digits and their derivatives far out."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["log1mexp", "log_beta_density", "log_gamma", "log_ndtr", "log_rising", "log_saturated"]

LARGE = 50.0
"""From here on Stirling's series is exact to rounding, and differences of it lose no digits."""

FAR = -100.0
"""Below, derivatives of the normal distribution function come from its asymptotic series."""


def log_gamma(log_x: Tensor) -> Tensor:
    """log Gamma(x) at x = exp(log_x), with finite derivatives in log_x as x goes to 0."""
    return torch.lgamma(1 + torch.exp(log_x)) - log_x


def log_rising(log_s: Tensor, y: Tensor) -> Tensor:
    """log Gamma(s + y) - log Gamma(s) at s = exp(log_s), y >= 0; 0 at y = 0 whatever s."""
    count = torch.where(y > 0, y, torch.ones_like(y))
    small = log_s.clamp(max=math.log(LARGE))
    s = torch.exp(small)
    exact = torch.lgamma(s + count + 1) - torch.log(s + count) - torch.lgamma(s + 1) + small
    large = log_s.clamp(min=math.log(LARGE))
    s = torch.exp(large)
    t = s + count
    tail = _stirling(t) - _stirling(s)
    series = count * large + (t - 0.5) * torch.log1p(count / s) - count + tail
    value = torch.where(log_s < math.log(LARGE), exact, series)
    return torch.where(y > 0, value, torch.zeros_like(value))


def log_saturated(y: Tensor) -> Tensor:
    """y log m - m - log y! at m = max(y, 1): of a Poisson count its own mean, as far as y > 0."""
    large = y.clamp(min=LARGE)
    series = -0.5 * torch.log(2 * math.pi * large) - _stirling(large)
    small = y.clamp(max=LARGE)
    mean = small.clamp(min=1.0)
    return torch.where(y < LARGE, small * mean.log() - mean - torch.lgamma(small + 1), series)


def _stirling(x: Tensor) -> Tensor:
    one = 1 / x
    square = one * one
    return one * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680)))


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(-x)), x > 0."""
    # rounding may leave x = 0: the bound keeps three derivatives of the logarithm finite
    return torch.log(-torch.expm1(-x.clamp(min=1e-90)))


def log_ndtr(x: Tensor) -> Tensor:
    """log Phi(x), three derivatives of it finite and right for |x| up to 1e12."""
    far = x.clamp(max=FAR)
    square = 1 / (far * far)
    series = torch.log1p(-square * (1 - square * (3 - 15 * square)))
    tail = -0.5 * far * far - torch.log(-far) - 0.5 * math.log(2 * math.pi) + series
    return torch.where(x < FAR, tail, torch.special.log_ndtr(x.clamp(min=FAR)))


def log_beta_density(
    log_y: Tensor, log_rest: Tensor, log_a: Tensor, log_b: Tensor, log_total: Tensor
) -> Tensor:
    """Density of Beta(a, b) at y from log y, log(1 - y), log a, log b and log(a + b)."""
    a, b = torch.exp(log_a), torch.exp(log_b)
    norm = log_gamma(log_total) - log_gamma(log_a) - log_gamma(log_b)
    return norm + (a - 1) * log_y + (b - 1) * log_rest
