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

__all__ = ["DIFFERENCE", "Descent", "Descents", "Evaluations", "descend", "descend_each"]

DIFFERENCE = 5e-5
"""Step of central differences: parameters are of order one."""

STEPS, HALVINGS = 30, 30

LONGEST = 10.0
"""Largest entry of a step, relative to that of the point or to one."""

ROUNDING = 1e-13
"""Change of an objective, relative to it, that may be rounding."""

TINY = 1e-300

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


class Evaluations(NamedTuple):
    """Several objectives, each at a point of its own."""

    value: np.ndarray  # (m,)
    gradient: np.ndarray  # (m, P)
    hessian: np.ndarray  # (m, P, P)


class Descents(NamedTuple):
    """The minima found."""

    x: np.ndarray  # (m, P)
    value: np.ndarray  # (m,)
    decrement: np.ndarray  # (m,) root of g'H^-1 g where the last step began
    reached: np.ndarray  # (m,) bool
    evaluations: np.ndarray  # (m,)


def descend_each(
    objective: Callable[[np.ndarray, np.ndarray], Evaluations],
    x: np.ndarray,
    tolerance: float,
    evaluations: int = 80,
) -> Descents:
    """The minima near x (m, P) of several objectives whose Hessians are known.

    An objective leaves the search when its decrement is below ``tolerance``, or below ten times
    that after a step that has made it ten times smaller: where steps converge, the last one squares
    it. It is given up when no shorter step leads down.

    Args:
        objective: of points (k, P) and the numbers (k,) of the objectives that they belong to.
        x: where the search begins.
        tolerance: of the decrement; a last step is taken from there.
        evaluations: most of one objective.
    """
    m, length = len(x), np.ones(len(x))
    x, step, value, decrement = x.copy(), np.zeros_like(x), np.full(m, np.inf), np.full(m, np.inf)
    used, at, done = np.zeros(m, dtype=int), np.arange(m), np.zeros(m, dtype=bool)
    for _ in range(evaluations):
        trial = x[at] - length[at, None] * step[at]
        found = objective(trial, at)
        ahead, left = _newton_steps(found, trial)
        used[at] += 1
        gain = value[at] - found.value
        lower = gain >= 1e-4 * length[at] * decrement[at] ** 2
        nearer = (gain >= -ROUNDING * np.abs(found.value)) & (left < 0.5 * decrement[at])
        good = np.isfinite(left) & (lower | nearer | (used[at] == 1))
        new = at[good]
        quick = (left[good] < 10 * tolerance) & (left[good] < 0.1 * decrement[new])
        done[new] = quick | (left[good] < tolerance)
        x[new], value[new], step[new] = trial[good], found.value[good], ahead[good]
        decrement[new], length[new] = left[good], 1.0
        length[at[~good]] *= 0.5
        at = at[~done[at] & (length[at] > 0.5**HALVINGS)]
        if not len(at):
            break
    x[done] -= step[done]
    return Descents(x, value, decrement, done, used)


def _newton_steps(found: Evaluations, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Steps (m, P) against the gradient, none longer than LONGEST, and decrements (m,)."""
    known = np.isfinite(found.value) & np.isfinite(found.hessian).all((1, 2))
    known &= np.isfinite(found.gradient).all(1)
    H = np.where(known[:, None, None], found.hessian, np.eye(x.shape[1]))
    size, turn = np.linalg.eigh(H)
    size = np.abs(size)
    size = np.maximum(size, np.maximum(SMALLEST * size.max(1, keepdims=True), TINY))
    along = (found.gradient[:, None, :] @ turn)[:, 0]
    step = (turn @ (along / size)[..., None])[..., 0]
    decrement = np.where(known, np.sqrt((along**2 / size).sum(1)), np.inf)
    longest = LONGEST * np.maximum(1.0, np.abs(x).max(1))
    return step * np.minimum(1.0, longest / np.maximum(np.abs(step).max(1), TINY))[
        :, None
    ], decrement
