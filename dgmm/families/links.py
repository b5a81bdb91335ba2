"""Link functions g, as g, g^-1 and d mu / d eta, on torch tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

__all__ = ["ATANH", "LINKS", "Link", "between"]

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Link:
    """g(mu) = eta; ``log_mean`` is log mu and ``log_complement`` log(1 - mu), overflow-safe."""

    name: str
    forward: Map
    inverse: Map
    derivative: Map
    log_mean: Map
    log_complement: Map | None = None

    def __reduce__(self) -> str | tuple[object, ...]:
        """Pickle and copy a link of the table by its name: functions cannot be written to files."""
        return (_of_table, (self.name,)) if self.name in LINKS else super().__reduce__()


def _of_table(name: str) -> Link:
    return LINKS[name]


def _normal_density(eta: Tensor) -> Tensor:
    return torch.exp(-0.5 * eta.square()) / math.sqrt(2 * math.pi)


def _log_cloglog(eta: Tensor) -> Tensor:
    # log(1 - exp(-x)), x = e^eta; expm1 keeps the digits, log x - x / 2 its derivatives at x = 0
    inner = torch.log(-torch.expm1(-torch.exp(eta.clamp(min=-20.0, max=30.0))))
    return torch.where(eta < -20.0, eta - 0.5 * torch.exp(eta.clamp(max=-20.0)), inner)


def _softplus(eta: Tensor) -> Tensor:
    return softplus(eta, threshold=40.0)  # below the rounding of eta, 20 is not


def _cloglog_derivative(eta: Tensor) -> Tensor:
    return torch.exp(eta - torch.exp(eta.clamp(max=30.0)))


def _probit(mu: Tensor) -> Tensor:
    return torch.special.ndtri(mu)


LINKS: dict[str, Link] = {
    "identity": Link("identity", lambda m: m, lambda e: e, torch.ones_like, torch.log),
    "log": Link("log", torch.log, torch.exp, torch.exp, lambda e: e),
    "sqrt": Link("sqrt", torch.sqrt, torch.square, lambda e: 2 * e, lambda e: 2 * e.abs().log()),
    "inverse": Link(
        "inverse",
        torch.reciprocal,
        torch.reciprocal,
        lambda e: -1 / e.square(),
        lambda e: -torch.log(e),
    ),
    "logit": Link(
        "logit",
        torch.logit,
        torch.sigmoid,
        lambda e: torch.sigmoid(e) * torch.sigmoid(-e),
        lambda e: -_softplus(-e),
        lambda e: -_softplus(e),
    ),
    "probit": Link(
        "probit",
        _probit,
        torch.special.ndtr,
        _normal_density,
        torch.special.log_ndtr,
        lambda e: torch.special.log_ndtr(-e),
    ),
    "cloglog": Link(
        "cloglog",
        lambda m: torch.log(-torch.log1p(-m)),
        lambda e: -torch.expm1(-torch.exp(e.clamp(max=30.0))),
        _cloglog_derivative,
        _log_cloglog,
        lambda e: -torch.exp(e),
    ),
}


ATANH = Link(
    "atanh",
    lambda r: torch.atanh(r.clamp(-1 + 1e-12, 1 - 1e-12)),
    torch.tanh,
    lambda e: torch.cosh(e).pow(-2),
    lambda e: torch.log(torch.tanh(e)),
)
"""Fisher's transformation of a correlation; no family has it."""


def between(lower: float, upper: float) -> Link:
    """The logit link of a mean inside (lower, upper)."""
    width = upper - lower
    logit = LINKS["logit"]
    return Link(
        f"logit on ({lower:g}, {upper:g})",
        lambda m: logit.forward((m - lower) / width),
        lambda e: lower + width * logit.inverse(e),
        lambda e: width * logit.derivative(e),
        lambda e: torch.log(lower + width * logit.inverse(e)),
    )
