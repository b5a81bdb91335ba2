"""Polish theta on the marginal log-likelihood until the Newton decrement is small in SE units.

Nodes follow theta from fixed anchors, so each round maximises a smooth function with an exact
gradient; then the anchors move. Each round works in coordinates z with theta = theta_0 + C'^-1 z,
C C' = sum_i s_i s_i' + kappa S the (empirical) information with the ridge: one unit of z is one
standard error, whatever the scale of a parameter.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from dgmm.likelihood.nodes import Frozen, freeze, modes
from dgmm.likelihood.rules import NodeRule
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta
from dgmm.runtime.progress import Progress

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
    """Minus the penalised log-likelihood over the free parameters."""

    frozen: Frozen
    theta: Theta
    packing: Packing
    kappa: np.ndarray

    def __call__(self, vector: np.ndarray) -> tuple[float, np.ndarray]:
        theta = {**self.theta, **self.packing.unpack(torch.from_numpy(vector))}
        try:
            value, gradient = self.frozen.value_and_gradient(theta, self.packing.shapes)
        except torch.linalg.LinAlgError:  # a step too far: P is no longer finite
            return 1e300, np.zeros_like(vector)
        slope = self.packing.pack(gradient).numpy() - self.kappa * vector
        total = value - 0.5 * float(self.kappa @ vector**2)
        if not np.isfinite(total):
            return 1e300, np.zeros_like(vector)
        return -total, -slope


def damping(packing: Packing) -> Tensor:
    """A weak prior on variance parameters, whose standard error is unbounded at the boundary.

    On the log scale a variance of zero is infinitely far: a standard error above 10 means flat.
    """
    return packing.pack(
        {
            name: torch.full(shape, 0.01 if name.startswith("latent") else 0.0).double()
            for name, shape in packing.shapes.items()
        }
    )


def metric(scores: Tensor, kappa: Tensor, floor: float) -> np.ndarray:
    """A square root C of the information, C C' = information, by its eigenvectors.

    Eigenvalues (of the matrix scaled to unit diagonal) below ``floor`` times the largest are
    raised to it: flat directions, such as rotations of b, would get unbounded steps.
    """
    information = (scores.T @ scores + torch.diag(kappa)).numpy()
    root = np.sqrt(np.maximum(np.diag(information), 1e-12 * max(1.0, information.max())))
    value, vector = np.linalg.eigh(information / root / root[:, None])
    value = np.maximum(value, floor * value[-1])
    return root[:, None] * (vector * np.sqrt(value))


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
    start: Tensor | None = None,
    progress: Progress | None = None,
) -> Polished:
    """Maximise over the ``free`` parameters (all by default); the same nodes in every round."""
    packing = model.packing.only(free if free is not None else model.packing.shapes)
    kappa = kappa_vector(model, packing)
    floor = 1e-10 if model.linear else 1e-3
    weak = damping(packing)
    gradient = 0.5 * tolerance / max(1.0, np.sqrt(packing.size))  # of the largest entry
    path, used, decrement = [], 0, np.inf
    for number in range(rounds + 1):
        frozen = freeze(model, theta, panel, rule, np.random.default_rng(seed), start)
        start = modes(frozen)
        x = packing.pack(theta).numpy()
        surface = Surface(frozen, theta, packing, kappa.numpy())
        value, slope = surface(x)
        factor = metric(frozen.scores(theta, packing), kappa + weak, floor)
        whitened = np.linalg.solve(factor, slope)
        decrement = float(np.linalg.norm(whitened))
        path.append(-value)
        if progress is not None:
            progress.update(number, elbo=None, gradient=decrement)
        if decrement < tolerance or number == rounds:
            break
        back = np.linalg.inv(factor).T  # z -> theta

        def whitened_surface(z: np.ndarray) -> tuple[float, np.ndarray]:
            value, slope = surface(x + back @ z)  # noqa: B023
            return value, back.T @ slope  # noqa: B023

        found = optimize.minimize(
            whitened_surface,
            np.zeros(len(x)),
            jac=True,
            method="L-BFGS-B",
            options={"maxfun": evaluations, "gtol": gradient, "ftol": 1e-15, "maxcor": 20},
        )
        used += int(found.nfev)
        moved = torch.from_numpy(x + back @ found.x)
        theta = {**theta, **packing.unpack(moved)}
    return Polished(
        theta, frozen, decrement, number, used, tuple(path), bool(decrement < tolerance)
    )
