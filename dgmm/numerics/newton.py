"""Newton's method with differences of a gradient for the Hessian, and its eigenvalues' sizes.

For a few parameters, near a minimum whose valley is curved: where a covariance is singular, factors
of it are known up to a turn, and a search along the gradient creeps. Negative eigenvalues are taken
by their size, so that a step leads away from a saddle (Nocedal and Wright 2006, section 3.4).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dgmm.numerics.hessian import central_jacobian
from dgmm.numerics.walled import Walled

__all__ = ["DIFFERENCE", "Descent", "descend"]

DIFFERENCE = 5e-5
"""Step of central differences: parameters are of order one."""

STEPS, HALVINGS = 30, 30

SMALLEST = 1e-10
"""Eigenvalue, relative to the largest, to which smaller ones are raised."""


class Descent(NamedTuple):
    """The minimum found."""

    x: np.ndarray
    decrement: float  # root of g'H^-1 g, in standard errors for minus a log-likelihood
    evaluations: int


def descend(
    objective: Callable[[np.ndarray], tuple[float, np.ndarray]],
    x: np.ndarray,
    tolerance: float,
    weak: np.ndarray | None = None,
) -> Descent:
    """The minimum near x of an objective that gives its value and its gradient (P,).

    weak: what is known of every parameter at the least, (P,): a logged variance of zero is
        infinitely far.
    """
    wall, used = Walled(objective), 1
    value, gradient = wall(x)
    for _ in range(STEPS):
        H = central_jacobian(lambda y: wall(y)[1], x, np.full(len(x), DIFFERENCE)).matrix
        used += 2 * len(x)
        size, turn = np.linalg.eigh(H if weak is None else H + np.diag(weak))
        size = np.maximum(np.abs(size), SMALLEST * np.abs(size).max())
        step = turn @ ((turn.T @ gradient) / size)
        decrement = float(gradient @ step) ** 0.5
        if decrement < tolerance:
            break
        for halving in range(HALVINGS):
            length, used = 0.5**halving, used + 1
            after, slope = wall(x - length * step)
            if after < value - 1e-4 * length * decrement**2:
                break
        else:
            break  # no digits are left
        x, value, gradient = x - length * step, after, slope
    return Descent(x, decrement, used)
