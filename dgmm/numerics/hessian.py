"""Central differences of any callable: knows no model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = [
    "STEP",
    "Curvature",
    "beside_quadratic",
    "central_hessian",
    "central_jacobian",
    "curvature_of",
    "invert",
    "pilot_steps",
    "short_steps",
    "whitened_jacobian",
]

LONGEST = 1.5
"""Steps on an axis, in standard errors of its parameter were all others known."""

STEP = 0.005
"""Step of central differences in pilot standard errors."""


class Curvature(NamedTuple):
    """A Hessian, with two diagnostics of its numerical quality."""

    matrix: np.ndarray  # (P, P), symmetric
    asymmetry: float  # largest |H - H'| before symmetrising, relative to the largest entry
    smallest_eigenvalue: float  # of H scaled to unit diagonal


def central_hessian(f: Callable[[np.ndarray], float], x: np.ndarray, step: np.ndarray) -> Curvature:
    """Second differences of f at x with steps h,

        H_jk = [f(+h_j +h_k) - f(+h_j -h_k) - f(-h_j +h_k) + f(-h_j -h_k)] / (4 h_j h_k),

    and (f(+h_j) - 2 f + f(-h_j)) / h_j^2 on the diagonal: 2 P^2 + 1 evaluations.
    """
    P, centre = len(x), f(x)
    H = np.empty((P, P))
    unit = np.diag(step)
    for j in range(P):
        H[j, j] = (f(x + unit[j]) - 2 * centre + f(x - unit[j])) / step[j] ** 2
        for k in range(j):
            up = f(x + unit[j] + unit[k]) + f(x - unit[j] - unit[k])
            down = f(x + unit[j] - unit[k]) + f(x - unit[j] + unit[k])
            H[j, k] = H[k, j] = (up - down) / (4 * step[j] * step[k])
    return curvature_of(H)


def central_jacobian(
    gradient: Callable[[np.ndarray], np.ndarray], x: np.ndarray, step: np.ndarray
) -> Curvature:
    """The same Hessian from 2 P gradients: column j is (g(x + h_j) - g(x - h_j)) / (2 h_j)."""
    unit = np.diag(step)
    columns = [
        (gradient(x + u) - gradient(x - u)) / (2 * h) for u, h in zip(unit, step, strict=True)
    ]
    return curvature_of(np.array(columns).T)


def short_steps(back: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The columns of ``back``, none longer than LONGEST on any axis.

    Few subjects, or far from a maximum, the scores hardly know some direction: a standard error
    along it is then no short step. scores: (n, P); their unit on an axis, all else known, is short.
    """
    axis = np.minimum(1 / np.sqrt((scores**2).sum(0) + 1e-12), 1.0)
    return back / np.maximum(np.abs(back / axis[:, None]).max(0) / LONGEST, 1.0)


def whitened_jacobian(
    gradient: Callable[[np.ndarray], np.ndarray], x: np.ndarray, back: np.ndarray, step: float
) -> Curvature:
    """The Hessian from 2 P gradients along the columns of ``back``, whose unit is a standard error.

    Along the axes of x no step would do for entries that are known well together, badly apart.
    Where a gradient cannot be calculated the Hessian is NaN.
    """

    def whitened(z: np.ndarray) -> np.ndarray:
        try:
            return back.T @ gradient(x + back @ z)
        except (FloatingPointError, np.linalg.LinAlgError):
            return np.full(len(x), np.nan)

    inner = central_jacobian(whitened, np.zeros(len(x)), np.full(len(x), step))
    forward = np.linalg.inv(back)
    return curvature_of(forward.T @ inner.matrix @ forward)


def curvature_of(H: np.ndarray) -> Curvature:
    """A Hessian made symmetric, with its diagnostics."""
    largest = np.abs(H).max() if H.size else 1.0
    asymmetry = float(np.abs(H - H.T).max() / largest) if H.size else 0.0
    H = 0.5 * (H + H.T)
    root = np.sqrt(np.maximum(np.abs(np.diag(H)), 1e-300))
    scaled = H / root / root[:, None]
    if not np.isfinite(scaled).all():
        return Curvature(H, asymmetry, float("nan"))
    smallest = float(np.linalg.eigvalsh(scaled)[0]) if H.size else np.inf
    return Curvature(H, asymmetry, smallest)


def invert(information: np.ndarray) -> np.ndarray:
    """Inverse of a positive definite matrix, scaled to unit diagonal first."""
    root = np.sqrt(np.diag(information))
    scaled = information / root / root[:, None]
    inverse = np.linalg.solve(scaled, np.eye(len(root)))
    return 0.5 * (inverse + inverse.T) / root / root[:, None]


def pilot_steps(value: Callable[[np.ndarray], float], x: np.ndarray) -> np.ndarray:
    """STEP pilot standard errors, from plain second differences on the diagonal, (P,)."""
    centre, steps = value(x), np.empty_like(x)
    for j in range(len(x)):
        h = 1e-3 * max(1.0, abs(x[j]))
        unit = np.zeros_like(x)
        unit[j] = h
        curvature = -(value(x + unit) - 2 * centre + value(x - unit)) / h**2
        steps[j] = STEP / math.sqrt(curvature) if curvature > 0 else h
    return np.clip(steps, 1e-6, 0.05)


def beside_quadratic(
    quadratic: np.ndarray,
    gradient: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    step: np.ndarray,
) -> Curvature:
    """The Hessian of a function whose block in the first p parameters, (p, p), is known.

    Rows of the others are central differences of the gradient, with steps (P,).
    """
    p, P = len(quadratic), len(x)
    H = np.empty((P, P))
    H[:p, :p] = quadratic
    for j in range(p, P):
        h = np.zeros(P)
        h[j] = step[j]
        H[j] = (gradient(x + h) - gradient(x - h)) / (2 * step[j])
        H[:p, j] = H[j, :p]
    return curvature_of(H)
