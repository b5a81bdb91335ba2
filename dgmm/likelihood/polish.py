"""Polish theta on the marginal log-likelihood until the Newton decrement is small in SE units.

Nodes follow theta from fixed anchors, so each round maximises a smooth function with an exact
gradient; then the anchors move. Each round works in coordinates z with theta = theta_0 + C'^-1 z,
C C' = sum_i s_i s_i' + kappa S the (empirical) information with the ridge: one unit of z is one
standard error, whatever the scale of a parameter. Outcomes that vary more than the family lets
them inflate the scores: where the curvature along the gradient says so, C C' is the observed one.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from dgmm.likelihood.nodes import Frozen, freeze, places
from dgmm.likelihood.rules import NodeRule
from dgmm.model import Model
from dgmm.numerics.walled import Walled
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta
from dgmm.posterior.proposal import Places
from dgmm.runtime.devices import to
from dgmm.runtime.progress import Progress

PROBE = 0.1
"""Step of differences of the gradient, in standard errors as the scores have them."""

FAITHFUL = 0.2
"""Curvature along the gradient, relative to the scores, below which these overstate it."""

NOTHING = 1e-12
"""Share of the largest information below which the scores say nothing of a parameter."""

__all__ = ["Polished", "Surface", "damping", "kappa_vector", "metric", "polish"]


@dataclass(frozen=True)
class Polished:
    """The maximum found, with the decrement that was left and the path of the objective."""

    theta: Theta
    frozen: Frozen  # anchored at theta
    decrement: float  # sqrt(g'H^-1 g), in standard errors
    rounds: int
    evaluations: int
    path: tuple[float, ...]  # penalised log-likelihood at the start of each round
    converged: bool


def kappa_vector(model: Model, packing: Packing) -> Tensor:
    """Ridge penalty of every entry of a packed theta, (P,)."""
    kappa = model.ridge()
    return packing.pack(
        {
            name: torch.full(shape, kappa.get(name, 0.0), dtype=torch.float64)
            for name, shape in packing.shapes.items()
        }
    )


@dataclass(frozen=True)
class Surface:
    """Minus the penalised log-likelihood over the free parameters; infinite where it has none."""

    frozen: Frozen
    theta: Theta
    packing: Packing
    kappa: np.ndarray
    dtype: torch.dtype = torch.float64  # of the calculations; what is given and returned is double

    def single(self) -> Surface:
        """The surface calculated in single precision."""
        return replace(self, frozen=to(self.frozen, "cpu", torch.float32), dtype=torch.float32)

    def __call__(self, vector: np.ndarray) -> tuple[float, np.ndarray]:
        theta = {**self.theta, **self.packing.unpack(torch.from_numpy(vector))}
        theta = {name: value.to(self.dtype) for name, value in theta.items()}
        nowhere = math.inf, np.zeros_like(vector)
        if not np.isfinite(vector).all():
            return nowhere
        try:
            value, gradient = self.frozen.value_and_gradient(theta, self.packing.shapes)
        except torch.linalg.LinAlgError:  # a step too far: P is no longer finite
            return nowhere
        slope = self.packing.pack(gradient).double().numpy() - self.kappa * vector
        total = value - 0.5 * float(self.kappa @ vector**2)
        return (-total, -slope) if np.isfinite(total) else nowhere


def damping(packing: Packing) -> Tensor:
    """A weak prior on parameters whose standard error is unbounded at their boundary.

    On the log scale a variance of zero, and a family without a use for one of its parameters, are
    infinitely far: a standard error above 10 means flat.
    """
    flat = ("latent", "extra")
    return packing.pack(
        {
            name: torch.full(shape, 0.01 if name.startswith(flat) else 0.0).double()
            for name, shape in packing.shapes.items()
        }
    )


def metric(scores: Tensor, kappa: Tensor, floor: float) -> np.ndarray:
    """A square root C of the information, C C' = information, by its eigenvectors.

    Eigenvalues (of the matrix scaled to unit diagonal) below ``floor`` times the largest are
    raised to it: flat directions, such as rotations of b, would get unbounded steps.
    """
    information = (scores.T @ scores + torch.diag(kappa)).numpy()
    root = np.sqrt(np.maximum(np.diag(information), NOTHING * max(1.0, information.max())))
    value, vector = np.linalg.eigh(information / root / root[:, None])
    value = np.maximum(value, floor * value[-1])
    return root[:, None] * (vector * np.sqrt(value))


def observed(
    surface: Surface, x: np.ndarray, slope: np.ndarray, factor: np.ndarray, blind: bool
) -> np.ndarray:
    """The factor of the curvature of ``surface`` at x where that of the scores overstates it, or
    where they are blind to a parameter.

    slope: the gradient at x, (P,); factor: a square root of the information in the scores, (P, P).
    """
    back = np.linalg.inv(factor).T
    z = back.T @ slope
    unit = z / max(float(np.linalg.norm(z)), 1e-300)
    there = surface(x + PROBE * (back @ unit))[1]
    along = float(unit @ (back.T @ (there - slope))) / PROBE
    if not blind and (along > FAITHFUL or not math.isfinite(along)):
        return factor
    ahead, behind = (
        np.array([surface(x + step * column)[1] for column in back.T]) for step in (PROBE, -PROBE)
    )
    H = (ahead - behind) @ back / (2 * PROBE)
    if not np.isfinite(H).all():
        return factor
    value, vector = np.linalg.eigh(0.5 * (H + H.T))
    value = np.maximum(np.abs(value), 1e-12 * np.abs(value).max())
    found: np.ndarray = factor @ (vector * np.sqrt(value))
    return found


def polish(
    model: Model,
    theta: Theta,
    panel: Panel,
    rule: NodeRule,
    seed: int,
    *,
    free: Collection[str] | None = None,
    rounds: int = 12,
    tolerance: float = 3e-3,
    evaluations: int = 40,
    start: Tensor | Places | None = None,
    progress: Progress | None = None,
) -> Polished:
    """Maximise over the ``free`` parameters (all by default); the same nodes in every round."""
    packing = model.packing.only(free if free is not None else model.packing.shapes)
    kappa = kappa_vector(model, packing)
    floor = 1e-10 if model.linear else 1e-3
    weak = damping(packing)
    used = 0

    def place(theta: Theta, start: Tensor | Places | None) -> _Place:
        """The nodes anchored at theta, with the metric there."""
        frozen = freeze(model, theta, panel, rule, np.random.default_rng(seed), start)
        x, surface = packing.pack(theta).numpy(), Surface(frozen, theta, packing, kappa.numpy())
        value, slope = surface(x)
        scores = frozen.scores(theta, packing)
        factor = metric(scores, kappa + weak, floor)
        if model.linear:
            each = scores.square().sum(0) + kappa + weak
            blind = bool((each < NOTHING * each.max()).any())
            factor = observed(surface, x, slope, factor, blind)
        return _Place(surface, x, value, slope, factor)

    def moved(here: _Place, x: np.ndarray) -> _Place:
        theta = {**here.surface.theta, **packing.unpack(torch.from_numpy(x))}
        return place(theta, places(here.surface.frozen))

    here = place(theta, start)
    path = [-here.value]
    for number in range(rounds + 1):
        if progress is not None:
            progress.update(number, elbo=None, gradient=here.decrement)
        if here.decrement < tolerance or number == rounds:
            break
        there = None
        if model.linear:
            used += 1
            with contextlib.suppress(np.linalg.LinAlgError, torch.linalg.LinAlgError):
                there = moved(here, here.x - here.back @ here.whitened)
        nearer = max(tolerance, 0.5 * here.decrement)
        if there is None or not there.decrement < nearer:
            x, more = here.climbed(tolerance, evaluations)
            used += more
            try:
                there = moved(here, x)
            except (np.linalg.LinAlgError, torch.linalg.LinAlgError):
                break  # the nodes cannot be anchored there
            if there.value > here.value and there.decrement > here.decrement:
                break  # what rose at the nodes of this anchor was their error
        here = there
        path.append(-here.value)
    frozen = here.surface.frozen
    done = bool(here.decrement < tolerance)
    return Polished(here.surface.theta, frozen, here.decrement, number, used, tuple(path), done)


@dataclass(frozen=True)
class _Place:
    """A surface at its anchor, with a square root of what is known there."""

    surface: Surface
    x: np.ndarray
    value: float  # of the surface, minus l
    slope: np.ndarray
    factor: np.ndarray

    @cached_property
    def back(self) -> np.ndarray:
        """z -> x, in standard errors."""
        inverse: np.ndarray = np.linalg.inv(self.factor).T
        return inverse

    @cached_property
    def whitened(self) -> np.ndarray:
        """The slope in z."""
        slope: np.ndarray = np.linalg.solve(self.factor, self.slope)
        return slope

    @property
    def decrement(self) -> float:
        """Its length, in standard errors."""
        return float(np.linalg.norm(self.whitened))

    def climbed(self, tolerance: float, evaluations: int) -> tuple[np.ndarray, int]:
        """The end of L-BFGS on the surface, in z, and the evaluations it took."""

        def whitened_surface(z: np.ndarray) -> tuple[float, np.ndarray]:
            value, slope = self.surface(self.x + self.back @ z)
            return value, self.back.T @ slope

        gradient = 0.5 * tolerance / max(1.0, np.sqrt(len(self.x)))  # of the largest entry
        found = optimize.minimize(
            Walled(whitened_surface, start=self.value),
            np.zeros(len(self.x)),
            jac=True,
            method="L-BFGS-B",
            options={"maxfun": evaluations, "gtol": gradient, "ftol": 1e-15, "maxcor": 20},
        )
        return self.x + self.back @ found.x, int(found.nfev)
