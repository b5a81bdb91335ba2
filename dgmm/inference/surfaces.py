"""The log-likelihood with one parameter held at a value: the surfaces that a profile walks over.

Variances are walked over as standard deviations and partial correlations, which reach their
boundaries at finite values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from dgmm.inference.coordinates import EDGE, Coordinates
from dgmm.likelihood import Point, Smooth
from dgmm.numerics.walled import Walled
from dgmm.parameters import Theta

__all__ = ["Surface", "Target", "targets"]

ROUNDS = 4
"""Most times that nodes are moved to the constrained maximum."""

SETTLED = 1e-4
"""Change of the constrained maximum below which the nodes stay."""


class Target(NamedTuple):
    """A parameter to be profiled."""

    kind: str  # "fixed", "sd", "cor", "sigma", or a word of the random part, such as "rho"
    term: int = 0  # random part
    places: tuple[int, ...] = ()  # column of X, effects of a random part, or the value reported


def targets(done: Point) -> list[Target]:
    """The targets in the order of the Wald table: coefficients, random parts, sigma."""
    found = [Target("fixed", 0, (j,)) for j in range(len(done.model.names))]
    for i, latent in enumerate(done.model.latents):
        for j, (kind, effects, _) in enumerate(latent.components()):
            if latent.by_reported:
                found.append(Target(kind, i, (j,)))
                continue
            found.append(Target(kind, i, tuple(latent.names.index(name) for name in effects)))
    if done.model.outcome.one_number("log_sigma") is not None:
        found.append(Target("sigma"))
    return found


@dataclass(frozen=True)
class _Layout:
    """The vector (standard deviations, partial correlations, rest): where the target stands."""

    coordinates: Coordinates
    place: int | None
    estimate: float
    limits: tuple[float, float]


def _layout(done: Point, target: Target) -> _Layout:
    own = target.kind not in ("fixed", "sigma") and done.model.latents[target.term].by_reported
    first = target.places if target.kind in ("sd", "cor") and not own else ()
    coordinates = Coordinates.of(done.model.latents, target.term, first)
    values = coordinates.of_theta(done.theta)
    start = coordinates.start(target.term)
    if own:
        at = start + target.places[0]
        lower, upper = coordinates.limits()
        return _Layout(coordinates, at, float(values[at]), (float(lower[at]), float(upper[at])))
    if target.kind == "sd":
        return _Layout(coordinates, start, float(values[start]), (0.0, np.inf))
    if target.kind == "cor":
        at = start + len(coordinates.orders[target.term])
        return _Layout(coordinates, at, float(values[at]), (-EDGE, EDGE))
    if target.kind == "sigma":
        sigma = float(done.theta["extra"][0].exp())
        return _Layout(coordinates, None, sigma, (1e-8 * sigma, np.inf))
    beta = done.model.beta(done.theta).detach().numpy()
    return _Layout(coordinates, None, float(beta[target.places[0]]), (-np.inf, np.inf))


def _maximise(
    objective: Callable[[Tensor], Tensor],
    x: np.ndarray,
    scale: np.ndarray,
    bounds: list[tuple[float | None, float | None]],
) -> tuple[float, np.ndarray]:
    """Maximise a differentiable function over a box, in units of ``scale``."""

    def negative(u: np.ndarray) -> tuple[float, np.ndarray]:
        vector = torch.from_numpy(u * scale).requires_grad_()
        value = objective(vector)
        (slope,) = torch.autograd.grad(value, vector)
        return -float(value.detach()), -torch.nan_to_num(slope).numpy() * scale

    if not len(x):
        return float(objective(torch.from_numpy(x)).detach()), x
    inner = [
        (None if low is None else low / s, None if high is None else high / s)
        for (low, high), s in zip(bounds, scale, strict=True)
    ]
    options = {"ftol": 1e-13, "gtol": 1e-5, "maxiter": 300, "maxcor": 20}
    found = optimize.minimize(
        Walled(negative, capped=True),
        x / scale,
        jac=True,
        method="L-BFGS-B",
        bounds=inner,
        options=options,
    )
    return -float(found.fun), found.x * scale


def _random_box(
    layout: _Layout, values: np.ndarray
) -> tuple[np.ndarray, list[tuple[float | None, float | None]]]:
    """Scales and bounds of the standard deviations and partial correlations."""
    deviation = layout.coordinates.is_deviation()
    # a standard deviation estimated as zero is measured in units of the linear predictor
    units = layout.coordinates.units()
    scale = np.where(deviation, np.maximum(values, 0.1 * units), units)
    lower, upper = layout.coordinates.limits()
    bounds: list[tuple[float | None, float | None]] = [
        (None if np.isinf(low) else low, None if np.isinf(high) else high)
        for low, high in zip(lower.tolist(), upper.tolist(), strict=True)
    ]
    return scale, bounds


def _lift(values: np.ndarray, layout: _Layout, scale: np.ndarray) -> np.ndarray:
    """Start free standard deviations off zero, where their gradient vanishes."""
    deviation = layout.coordinates.is_deviation()
    lower, upper = layout.coordinates.limits()
    inside = np.where(np.isfinite(upper - lower), 0.005 * (upper - lower), 0.0)
    return np.where(
        deviation, np.maximum(values, 0.1 * scale), np.clip(values, lower + inside, upper - inside)
    )


class _Value(torch.autograd.Function):
    """l(theta) with the gradient that a likelihood provides."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        likelihood: Smooth,
        names: tuple[str, ...],
        *values: Tensor,
    ) -> Tensor:
        theta = dict(zip(names, (value.detach() for value in values), strict=True))
        with torch.enable_grad(), np.errstate(over="ignore", invalid="ignore"):
            total, gradient = likelihood.value_and_gradient(theta)
        ctx.save_for_backward(*(gradient[name] for name in names))
        return torch.tensor(total, dtype=torch.float64)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, outer: Tensor
    ) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # type: ignore[attr-defined]
        return (None, None, *(outer * one for one in saved))


class Surface:
    """l_p of a classical model: the log-likelihood maximised with one parameter held.

    The vector is (standard deviations and partial correlations, gamma, extra), beta = turn gamma
    with the first axis of gamma along the coefficient that is held.
    """

    def __init__(self, done: Point, target: Target) -> None:
        layout = _layout(done, target)
        self.estimate, self.limits = layout.estimate, layout.limits
        self._done, self._layout, self._target = done, layout, target
        model = done.model
        random = layout.coordinates.of_theta(done.theta)
        scale, bounds = _random_box(layout, random)
        p = len(model.names)
        axis = model.basis[target.places[0]] if target.kind == "fixed" else model.basis[0]
        mixed = torch.cat([axis[:, None], torch.eye(p, dtype=torch.float64)], dim=1)
        self._turn = torch.linalg.qr(mixed)[0]
        self._length = float(axis @ self._turn[:, 0])
        gamma = (self._turn.T @ done.theta["beta"]).detach().numpy()
        extra = done.theta["extra"].detach().reshape(-1).numpy()
        self._k, self._p = len(random), p
        self._held = layout.place
        if target.kind == "fixed":
            self._held = self._k
        if target.kind == "sigma":
            self._held = self._k + p + (model.outcome.one_number("log_sigma") or 0)
        others = p + len(extra)
        self._scale = np.concatenate([scale, np.full(others, 0.1)])
        self._bounds = [*bounds, *([(None, None)] * others)]
        self._reached = {self.estimate: np.concatenate([random, gamma, extra])}

    def maximum(self, value: float) -> float:
        """l_p(value), from where the nearest value led; nodes move until it stands still."""
        x = self._reached[min(self._reached, key=lambda one: abs(one - value))].copy()
        free = np.ones(len(x), dtype=bool)
        if self._held is not None:
            x[self._held] = self._working(value)
            free[self._held] = False
        k, likelihood = self._k, self._done.likelihood
        x[:k] = np.where(free[:k], _lift(x[:k], self._layout, self._scale[:k]), x[:k])
        bounds = [b for b, one in zip(self._bounds, free, strict=True) if one]
        places, best = torch.from_numpy(np.flatnonzero(free)), -np.inf
        for _ in range(ROUNDS):
            whole = torch.from_numpy(x)
            here = {name: v.detach() for name, v in self._theta(whole).items()}
            smooth = likelihood.near(here)

            def objective(part: Tensor) -> Tensor:
                theta = self._theta(whole.index_put((places,), part))  # noqa: B023
                return _Value.apply(smooth, tuple(theta), *theta.values())  # noqa: B023

            reached, found = _maximise(objective, x[free], self._scale[free], bounds)
            x = x.copy()
            x[free] = found
            if smooth is likelihood or abs(reached - best) < SETTLED:
                break
            best = reached
        self._reached[value] = x
        return reached

    def _working(self, value: float) -> float:
        """The entry of the vector at which the target has a value."""
        if self._target.kind == "fixed":
            return value / self._length
        return float(np.log(value)) if self._target.kind == "sigma" else value

    def _theta(self, vector: Tensor) -> Theta:
        k, p = self._k, self._p
        theta: Theta = {"beta": self._turn @ vector[k : k + p]}
        theta |= self._layout.coordinates.to_theta(vector[:k])
        theta["extra"] = vector[k + p :].reshape(self._done.theta["extra"].shape)
        return theta
