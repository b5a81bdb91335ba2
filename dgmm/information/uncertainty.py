"""Uncertainty: what is known of theta-hat, and the one way from it to a standard error.

A covariance V of theta-hat, or draws theta_1, ..., theta_B around it. Of a function f of theta,

    covariance   var{f(theta-hat)} = J V J',   J = d f / d theta at theta-hat      (delta method)
    draws        var{f(theta-hat)} = sum_b (f_b - f)(f_b - f)' / (B - 1),   f_b = f(theta_b)

Draws are resamples, around an estimate, or come from a posterior, whose estimates are the means f
and whose intervals are quantiles of f_b.

A parameter held at a boundary has no distribution: a function that moves with it has no standard
error, all others take it as it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from dgmm.families.links import LINKS, Link
from dgmm.information.records import Information
from dgmm.information.spread import Derivative, Spread
from dgmm.likelihood import Point
from dgmm.parameters import Packing, Theta

__all__ = ["Covariance", "Draws", "Posterior", "Uncertainty", "uncertainty"]

Function = Callable[[Theta], Tensor]
"""A vector (G,) calculated from all of theta."""

MOVES = 1e-12
"""Largest derivative of a function that does not use a parameter."""

NUDGE = 1e-3
"""How far parameters held at a boundary are moved to see which functions use them."""

DIFFERENCE = 0.05
"""Step of the central differences, in standard errors of the parameter."""

LEAST_VARIANCE = 1e-10
"""Variance of a parameter that the step is made of, at least."""

MOST = 1_000
"""Draws of theta of which a function without a known derivative is calculated."""


class Uncertainty(ABC):
    """What is known of theta-hat: a covariance or draws."""

    theta: Theta  # the estimate
    packing: Packing  # the parameters that it is about
    form: str  # how it was made, for the summary

    @property
    @abstractmethod
    def empty(self) -> bool:
        """Whether nothing is known: no reported parameter has a standard error."""

    @abstractmethod
    def of(self, function: Function, derivative: Derivative | None = None) -> Spread:
        """The spread of a function of theta.

        derivative: where it is known in closed form; else it is found by automatic differentiation,
            and by central differences of a function that works without.
        """

    def errors(self, function: Function, derivative: Derivative | None = None) -> Tensor:
        """Standard errors alone, (G,), of more functions than there is room for derivatives."""
        return self.of(function, derivative).se

    @abstractmethod
    def beside(
        self, function: Function, packing: Packing, derivative: Derivative | None = None
    ) -> tuple[Tensor, Tensor]:
        """Standard errors (G,) of a function, and its covariance with some parameters, (G, R)."""

    @abstractmethod
    def covariance(self, packing: Packing) -> Tensor:
        """The covariance of some parameters, (R, R)."""

    @abstractmethod
    def among(self, packing: Packing) -> Uncertainty:
        """The uncertainty of some parameters, with all others as they are."""

    def interval(
        self,
        function: Function,
        level: float,
        link: Link = LINKS["identity"],
        *,
        percentiles: bool = False,
    ) -> Tensor:
        """See :meth:`Spread.interval`."""
        return self.of(function).interval(level, link, percentiles=percentiles)

    @abstractmethod
    def draw(self, m: int, generator: torch.Generator) -> list[Theta]:
        """m values of theta; a parameter held at a boundary stays at its estimate."""

    @abstractmethod
    def taking_held_as_known(self) -> Uncertainty:
        """The uncertainty of all other parameters, with those held at a boundary as they are."""


@dataclass(frozen=True)
class Covariance(Uncertainty):
    """theta-hat ~ N(theta, V); parameters outside ``packing`` are taken as known."""

    theta: Theta
    packing: Packing
    vcov: Tensor  # (P, P), NaN for parameters held at a boundary
    form: str = ""

    @property
    def empty(self) -> bool:
        """All variances are missing."""
        return bool(self.vcov.diagonal().isnan().all())

    def of(self, function: Function, derivative: Derivative | None = None) -> Spread:
        """Delta method."""
        with torch.no_grad():
            value = function(self.theta)
        if derivative is None:
            left, right = self._moved(self._jacobian(function), self.vcov)
            return Spread(value, left, right)
        V = self._among(derivative.packing)
        size = (len(value), len(V))
        left, right = (torch.zeros(size, dtype=torch.float64) for _ in range(2))
        for at, J in derivative.blocks():
            left[at], right[at] = self._moved(J, V)
        return Spread(value, left, right)

    def errors(self, function: Function, derivative: Derivative | None = None) -> Tensor:
        """Delta method, without keeping the derivatives."""
        if derivative is None:
            return self.of(function).se
        V, found = self._among(derivative.packing), []
        for at, J in derivative.blocks():
            value = torch.zeros(len(at), dtype=torch.float64)  # errors do not depend on it
            found.append((at, Spread(value, *self._moved(J, V)).se))
        errors = torch.zeros(sum(len(at) for at, _ in found), dtype=torch.float64)
        for at, some in found:
            errors[at] = some
        return errors

    def beside(
        self, function: Function, packing: Packing, derivative: Derivative | None = None
    ) -> tuple[Tensor, Tensor]:
        """Delta method, without keeping the derivatives."""
        here = derivative or Derivative.dense(self.packing, lambda: self._jacobian(function))
        V, across = self._among(here.packing), self._among(here.packing, packing)
        found = [
            (at, Spread(torch.zeros(len(at)), *self._moved(J, V)).se, J @ across)
            for at, J in here.blocks()
        ]
        size = sum(len(at) for at, *_ in found)
        errors = torch.zeros(size, dtype=torch.float64)
        table = torch.zeros(size, packing.size, dtype=torch.float64)
        for at, se, some in found:
            errors[at], table[at] = se, some
        return errors, table

    def covariance(self, packing: Packing) -> Tensor:
        return self._among(packing)

    def among(self, packing: Packing) -> Covariance:
        return replace(self, packing=packing, vcov=self._among(packing))

    def draw(self, m: int, generator: torch.Generator) -> list[Theta]:
        """theta-hat + V^(1/2) z, V^(1/2) symmetric."""
        z = torch.randn(m, self.packing.size, generator=generator, dtype=torch.float64)
        points = self.packing.pack(self.theta).detach() + z @ self._root
        return [{**self.theta, **self.packing.unpack(point)} for point in points]

    def taking_held_as_known(self) -> Covariance:
        """Zero in place of missing variances."""
        return replace(self, vcov=torch.nan_to_num(self.vcov, nan=0.0))

    @cached_property
    def _root(self) -> Tensor:
        value, vector = torch.linalg.eigh(torch.nan_to_num(self.vcov, nan=0.0))
        return vector * value.clamp(min=0).sqrt() @ vector.T

    def _among(self, packing: Packing, other: Packing | None = None) -> Tensor:
        rows = self._positions(packing)
        return self.vcov[rows][:, rows if other is None else self._positions(other)]

    def _positions(self, packing: Packing) -> Tensor:
        unknown = [name for name in packing.shapes if name not in self.packing.shapes]
        if unknown:
            raise ValueError(f"the covariance does not hold the parameters {', '.join(unknown)}")
        return self.packing.places(packing)

    @staticmethod
    def _moved(J: Tensor, V: Tensor) -> tuple[Tensor, Tensor]:
        """J V and J, (G, P) each: the only place where a covariance meets derivatives."""
        held = V.diagonal().isnan()
        left = J @ torch.where(held[:, None] | held, 0.0, V)
        left[(J[:, held].abs() > MOVES).any(1)] = torch.nan
        return left, J

    def _jacobian(self, function: Function) -> Tensor:
        x = self.packing.pack(self.theta).detach()

        def value(vector: Tensor) -> Tensor:
            return function({**self.theta, **self.packing.unpack(vector)})

        if value(x.clone().requires_grad_()).requires_grad:
            jacobian: Tensor = torch.autograd.functional.jacobian(value, x)
            return jacobian
        variance = torch.nan_to_num(self.vcov.diagonal(), nan=0.0).clamp(min=LEAST_VARIANCE)
        step = DIFFERENCE * variance.sqrt()
        moves = zip(torch.diag(step), step, strict=True)
        return torch.stack([(value(x + u) - value(x - u)) / (2 * h) for u, h in moves], dim=1)


@dataclass(frozen=True)
class Draws(Uncertainty):
    """theta_1, ..., theta_B: resamples of a bootstrap, or draws from a posterior."""

    theta: Theta
    packing: Packing
    table: Tensor  # (B, P)
    held: Tensor  # (P,) bool: held at a boundary, where draws say nothing
    form: str = ""

    @property
    def empty(self) -> bool:
        """All parameters are held."""
        return bool(self.held.all())

    def of(self, function: Function, derivative: Derivative | None = None) -> Spread:
        """The function of every draw; no derivative is needed."""
        with torch.no_grad():
            value = function(self.theta)
            drawn = torch.stack([function(self._at(row)) for row in self.table])
            deviation = (drawn - drawn.mean(0)).T / (len(drawn) - 1) ** 0.5
            left = deviation
            if bool(self.held.any()):
                nudged = self.packing.pack(self.theta) + NUDGE * self.held
                uses = (function(self._at(nudged)) - value).abs() > MOVES
                left = torch.where(uses[:, None], torch.nan, deviation)
        return Spread(value, left, deviation, drawn)

    def beside(
        self, function: Function, packing: Packing, derivative: Derivative | None = None
    ) -> tuple[Tensor, Tensor]:
        """The function of every draw beside the draw."""
        found, own = self.of(function), self.table[:, self.packing.places(packing)]
        deviation = (own - own.mean(0)) / (len(own) - 1) ** 0.5
        return found.se, found.right @ deviation

    def covariance(self, packing: Packing) -> Tensor:
        own = self.table[:, self.packing.places(packing)]
        deviation = own - own.mean(0)
        return deviation.T @ deviation / (len(own) - 1)

    def among(self, packing: Packing) -> Draws:
        kept = torch.ones(self.packing.size, dtype=torch.bool)
        kept[self.packing.places(packing)] = False
        table = torch.where(kept, self.packing.pack(self.theta).detach(), self.table)
        return replace(self, table=table)

    def draw(self, m: int, generator: torch.Generator) -> list[Theta]:
        """Rows of the table, with replacement."""
        rows = torch.randint(len(self.table), (m,), generator=generator)
        kept = self.packing.pack(self.theta).detach()
        return [self._at(torch.where(self.held, kept, self.table[row])) for row in rows]

    def taking_held_as_known(self) -> Draws:
        """The draws with every held parameter at its estimate."""
        table = torch.where(self.held, self.packing.pack(self.theta).detach(), self.table)
        return replace(self, table=table, held=torch.zeros_like(self.held))

    def _at(self, row: Tensor) -> Theta:
        return {**self.theta, **self.packing.unpack(row)}


@dataclass(frozen=True)
class Posterior(Draws):
    """Draws from the posterior: estimates are means of functions, intervals their quantiles."""

    def of(self, function: Function, derivative: Derivative | None = None) -> Spread:
        """The function of every draw, or of a thousand of them where it is not linear in theta."""
        with torch.no_grad():
            drawn = None if derivative is None else self._linear(function, derivative)
            if drawn is None:
                drawn = torch.stack([function(self._at(row)) for row in self.some(MOST).table])
        deviation = (drawn - drawn.mean(0)).T / (len(drawn) - 1) ** 0.5
        return Spread(drawn.mean(0), deviation, deviation, drawn, posterior=True)

    def _linear(self, function: Function, derivative: Derivative) -> Tensor | None:
        """The function of every draw by its derivative; None where it is not linear."""
        places = self.packing.places(derivative.packing)
        centre = self.packing.pack(self.theta)[places]
        value = function(self.theta)
        drawn = value.expand(len(self.table), len(value)).clone()
        moved = self.table[:, places] - centre
        for at, J in derivative.blocks():
            drawn[:, at] += moved @ J.T
        for row in (0, len(self.table) // 2, -1):
            if not torch.allclose(function(self._at(self.table[row])), drawn[row], equal_nan=True):
                return None
        return drawn

    def some(self, size: int) -> Posterior:
        """At most ``size`` of the draws, evenly spread over the chains."""
        step = max(1, -(-len(self.table) // size))
        return replace(self, table=self.table[::step])

    def among(self, packing: Packing) -> Posterior:
        found = super().among(packing)
        return Posterior(found.theta, found.packing, found.table, found.held, found.form)


def uncertainty(done: Point, info: Information, *, weights: bool = False) -> Uncertainty:
    """What a record of information says of theta-hat.

    weights: of network weights too, by their joint covariance; else they are taken as known.
        Draws always move them.

    Raises:
        ValueError: the joint covariance is wanted, and the record has come from a file without it.
    """
    packing = done.model.packing
    if info.resampled is not None:
        unknown = info.vcov.diagonal().isnan()
        held = torch.full((packing.size,), bool(unknown.all()))
        held[packing.positions(info.packing.shapes)] = unknown
        if info.posterior:
            return Posterior(done.theta, packing, info.resampled, held, info.form)
        return Draws(done.theta, packing, info.resampled, held, info.form)
    if not weights or done.model.linear:
        return Covariance(done.theta, info.packing, info.vcov, info.form)
    if info.joint is None:
        raise ValueError("the joint covariance with the network weights has to be made first")
    return Covariance(done.theta, info.joint.packing, info.joint.vcov, info.form)
