"""The log-likelihood with one parameter held at a value: the surfaces that a profile walks over.

Variances are walked over as standard deviations and partial correlations, which reach their
boundaries at finite values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from dgmm.estimate import Estimate
from dgmm.inference.coordinates import EDGE, Coordinates
from dgmm.information.gaussian import GaussianLikelihood
from dgmm.latent import Normal
from dgmm.likelihood import Frozen, freeze, modes
from dgmm.parameters import Theta

__all__ = ["Constrained", "Target", "surface_of", "targets"]

ROUNDS = 4
"""Times the nodes of a numerical likelihood are moved to the constrained maximum."""


class Target(NamedTuple):
    """A parameter to be profiled."""

    kind: str  # "fixed", "sd", "cor", "sigma"
    term: int = 0  # random part
    places: tuple[int, ...] = ()  # column of X, or effects of the random part


def targets(done: Estimate) -> list[Target]:
    """The targets in the order of the Wald table: coefficients, random parts, sigma."""
    found = [Target("fixed", 0, (j,)) for j in range(len(done.model.names))]
    for i, latent in enumerate(done.model.latents):
        found += [Target("sd", i, (j,)) for j in range(len(latent.names))]
        if "below" in latent.shapes():
            q = len(latent.names)
            found += [Target("cor", i, (c, r)) for r in range(q) for c in range(r)]
    if done.model.one_number("log_sigma") is not None:
        found.append(Target("sigma"))
    return found


class Constrained(Protocol):
    """The log-likelihood with one parameter held."""

    estimate: float
    limits: tuple[float, float]

    def maximum(self, value: float) -> float:
        """l_p(value)."""


def surface_of(done: Estimate, target: Target, seed: int) -> Constrained:
    """The surface of a classical fit: exact, or at nodes."""
    if done.likelihood == "exact":
        return GaussianSurface(done, target)
    return NodeSurface(done, target, seed)


@dataclass(frozen=True)
class _Layout:
    """The vector (standard deviations, partial correlations, rest): where the target stands."""

    coordinates: Coordinates
    place: int | None
    estimate: float
    limits: tuple[float, float]


def _layout(done: Estimate, target: Target) -> _Layout:
    first = target.places if target.kind in ("sd", "cor") else ()
    coordinates = Coordinates.of(done.model.latents, target.term, first)
    values = coordinates.of_theta(done)
    start = coordinates.start(target.term)
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
        try:
            value = objective(vector)
        except torch.linalg.LinAlgError:
            return 1e300, np.zeros_like(u)
        (slope,) = torch.autograd.grad(value, vector)
        if not bool(torch.isfinite(value)):
            return 1e300, np.zeros_like(u)
        return -float(value.detach()), -torch.nan_to_num(slope).numpy() * scale

    if not len(x):
        return float(objective(torch.from_numpy(x)).detach()), x
    inner = [
        (None if low is None else low / s, None if high is None else high / s)
        for (low, high), s in zip(bounds, scale, strict=True)
    ]
    found = optimize.minimize(
        negative,
        x / scale,
        jac=True,
        method="L-BFGS-B",
        bounds=inner,
        options={"ftol": 1e-13, "gtol": 1e-5, "maxiter": 300, "maxcor": 20},
    )
    return -float(found.fun), found.x * scale


def _random_box(
    layout: _Layout, values: np.ndarray
) -> tuple[np.ndarray, list[tuple[float | None, float | None]]]:
    """Scales and bounds of the standard deviations and partial correlations."""
    deviation = layout.coordinates.is_deviation()
    # a standard deviation estimated as zero is measured in units of the linear predictor
    scale = np.where(deviation, np.maximum(values, 0.1 * layout.coordinates.units()), 1.0)
    bounds: list[tuple[float | None, float | None]] = [
        (0.0, None) if one else (-EDGE, EDGE) for one in deviation
    ]
    return scale, bounds


def _lift(values: np.ndarray, layout: _Layout, scale: np.ndarray) -> np.ndarray:
    """Start free standard deviations off zero, where their gradient vanishes."""
    deviation = layout.coordinates.is_deviation()
    lifted = np.where(deviation, np.maximum(values, 0.1 * scale), values)
    return np.where(deviation, lifted, np.clip(lifted, -0.99, 0.99))


class GaussianSurface:
    """l_p of the exact Gaussian likelihood: beta by generalised least squares at every point."""

    def __init__(self, done: Estimate, target: Target) -> None:
        layout = _layout(done, target)
        self.estimate, self.limits = layout.estimate, layout.limits
        self._layout, self._target = layout, target
        self._likelihood = GaussianLikelihood.of(done, reml=False)
        self._latents = done.model.latents
        self._direction = done.model.basis[target.places[0]] if target.kind == "fixed" else None
        random = layout.coordinates.of_theta(done)
        scale, bounds = _random_box(layout, random)
        log_sigma = float(done.theta["extra"][0])
        self._held = len(random) if target.kind == "sigma" else layout.place
        self._scale = np.append(scale, 1.0)
        self._bounds = [*bounds, (None, None)]
        self._x = np.append(_lift(random, layout, scale), log_sigma)

    def maximum(self, value: float) -> float:
        """l_p(value), beginning where the last call ended."""
        x = self._x.copy()
        free = np.ones(len(x), dtype=bool)
        if self._held is not None:
            x[self._held] = np.log(value) if self._target.kind == "sigma" else value
            free[self._held] = False
        x[:-1] = np.where(free[:-1], _lift(x[:-1], self._layout, self._scale[:-1]), x[:-1])
        whole = torch.from_numpy(x)
        places = torch.from_numpy(np.flatnonzero(free))

        def objective(part: Tensor) -> Tensor:
            return self._value(whole.index_put((places,), part), value)

        bounds = [b for b, one in zip(self._bounds, free, strict=True) if one]
        best, found = _maximise(objective, x[free], self._scale[free], bounds)
        self._x[free] = found
        return best

    def _value(self, vector: Tensor, held: float) -> Tensor:
        likelihood, log_sigma = self._likelihood, vector[-1]
        roots = self._layout.coordinates.roots(vector[:-1])
        blocks = [r / lat.scale[:, None] for r, lat in zip(roots, self._latents, strict=True)]
        relative = torch.block_diag(*blocks) * likelihood.unit * torch.exp(-log_sigma)
        excess: Tensor | float = 0.0
        if self._direction is not None:
            found = likelihood.solve(relative)
            excess = likelihood.constraint(found, self._direction, held)
        return likelihood.value(relative, log_sigma, excess)


# -- likelihoods by quadrature -------------------------------------------------------------------


class _AtNodes(torch.autograd.Function):
    """l(theta) at frozen nodes with the gradient that Frozen provides."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        frozen: Frozen,
        names: tuple[str, ...],
        *values: Tensor,
    ) -> Tensor:
        theta = dict(zip(names, (value.detach() for value in values), strict=True))
        with torch.enable_grad():
            total, gradient = frozen.value_and_gradient(theta)
        ctx.save_for_backward(*(gradient[name] for name in names))
        return torch.tensor(total, dtype=torch.float64)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, outer: Tensor
    ) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # type: ignore[attr-defined]
        return (None, None, *(outer * one for one in saved))


class NodeSurface:
    """l_p of a likelihood by quadrature: nodes anchored near every constrained maximum."""

    def __init__(self, done: Estimate, target: Target, seed: int) -> None:
        layout = _layout(done, target)
        self.estimate, self.limits = layout.estimate, layout.limits
        self._done, self._layout, self._target, self._seed = done, layout, target, seed
        model = done.model
        random = layout.coordinates.of_theta(done)
        scale, bounds = _random_box(layout, random)
        # beta = basis turn gamma, the first axis of gamma along the coefficient that is held
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
            self._held = self._k + p + (model.one_number("log_sigma") or 0)
        others = p + len(extra)
        self._scale = np.concatenate([scale, np.full(others, 0.1)])
        self._bounds = [*bounds, *([(None, None)] * others)]
        self._x = np.concatenate([random, gamma, extra])
        self._start: Tensor | None = None

    def maximum(self, value: float) -> float:
        """l_p(value): maximise, move the nodes there, until the value stands still."""
        x = self._x.copy()
        free = np.ones(len(x), dtype=bool)
        if self._held is not None:
            kind = self._target.kind
            x[self._held] = (
                value / self._length
                if kind == "fixed"
                else np.log(value)
                if kind == "sigma"
                else value
            )
            free[self._held] = False
        k = self._k
        x[:k] = np.where(free[:k], _lift(x[:k], self._layout, self._scale[:k]), x[:k])
        bounds = [b for b, one in zip(self._bounds, free, strict=True) if one]
        places, best = torch.from_numpy(np.flatnonzero(free)), -np.inf
        for _ in range(ROUNDS):
            whole = torch.from_numpy(x)
            frozen = self._freeze(self._theta(whole))

            def objective(part: Tensor) -> Tensor:
                theta = self._theta(whole.index_put((places,), part))  # noqa: B023
                return _AtNodes.apply(frozen, tuple(theta), *theta.values())  # noqa: B023

            reached, found = _maximise(objective, x[free], self._scale[free], bounds)
            x = x.copy()
            x[free] = found
            if abs(reached - best) < 1e-4:
                break
            best = reached
        self._x = x
        return reached

    def _freeze(self, theta: Theta) -> Frozen:
        done, theta = self._done, {name: value.detach() for name, value in theta.items()}
        assert done.rule is not None
        rng = np.random.default_rng([self._seed, 29])
        frozen = freeze(done.model, theta, done.observed, done.rule, rng, self._start)
        self._start = modes(frozen)
        return frozen

    def _theta(self, vector: Tensor) -> Theta:
        k, p = self._k, self._p
        theta: Theta = {"beta": self._turn @ vector[k : k + p]}
        roots = self._layout.coordinates.roots(vector[:k])
        for i, (root, latent) in enumerate(zip(roots, self._done.model.latents, strict=True), 1):
            assert isinstance(latent, Normal)
            raw = latent.from_covariance(root @ root.T)
            theta |= {f"latent{i}.{name}": value for name, value in raw.items()}
        theta["extra"] = vector[k + p :].reshape(self._done.theta["extra"].shape)
        return theta
