"""Maximum likelihood in standard-error units: L-BFGS in coordinates whitened by the scores.

With S = sum_i s_i s_i' the information in the scores of the subjects and C C' = S, one unit of
z = C'(x - x_0) is about one standard error, whatever the scale of a parameter; the norm of the
gradient in z is the Newton decrement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from scipy import optimize

__all__ = ["Ascent", "Evaluation", "Objective", "ascend", "whitening"]

FLOOR = 1e-8
FAR = 1.0


class Evaluation(NamedTuple):
    """An objective and its gradient at one point, subject by subject where asked for."""

    value: float
    gradient: np.ndarray  # (P,)
    scores: np.ndarray | None  # (n, P)


class Objective(Protocol):
    """What is maximised."""

    def value_and_gradient(self, x: np.ndarray, scores: bool = False) -> Evaluation:
        """Value, gradient (P,) and, if asked for, the scores of the subjects (n, P)."""

    def least_information(self, x: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
        """What is known of every entry even where its scores vanish, (P,)."""


class Ascent(NamedTuple):
    """The maximum found."""

    x: np.ndarray
    value: float
    decrement: float  # Newton decrement that was left, in standard errors
    evaluations: int
    path: tuple[float, ...]  # the value at the start of every round


@dataclass
class _Whitened:
    """Minus the objective in whitened coordinates; an overflow counts as a step too far."""

    objective: Objective
    origin: np.ndarray
    back: np.ndarray  # x = origin + back z
    used: int = 0

    def __call__(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        self.used += 1
        try:
            found = self.objective.value_and_gradient(self.origin + self.back @ z)
        except (FloatingPointError, np.linalg.LinAlgError):
            return 1e300, np.zeros_like(z)
        if not (np.isfinite(found.value) and np.isfinite(found.gradient).all()):
            return 1e300, np.zeros_like(z)
        return -found.value, -(self.back.T @ found.gradient)


def whitening(information: np.ndarray, least: np.ndarray) -> np.ndarray:
    """C'^-1 with C C' = information, scaled to unit diagonal and its small eigenvalues raised.

    least: what is known of every entry at the least, (P,).
    """
    diagonal = np.diag(information)
    least = np.maximum(least, 1e-12)
    information = information + np.diag(np.maximum(least - diagonal, 0.0))
    root = np.sqrt(np.diag(information))
    value, vector = np.linalg.eigh(information / root / root[:, None])
    value = np.maximum(value, FLOOR * value[-1])
    back: np.ndarray = vector / np.sqrt(value) / root[:, None]
    return back


def ascend(
    objective: Objective,
    x: np.ndarray,
    *,
    tolerance: float,
    rounds: int = 12,
    evaluations: int = 60,
    report: Callable[[int, float], None] | None = None,
) -> Ascent:
    """Maximise until the decrement is below ``tolerance``; every round renews the metric.

    The first round, whose metric is that of the start, is cut short once it has come near.
    """
    used, path, scale = 0, [], 1.0
    for number in range(rounds + 1):
        here = objective.value_and_gradient(x, scores=True)
        used += 1
        assert here.scores is not None
        if not (np.isfinite(here.value) and np.isfinite(here.scores).all()):
            raise FloatingPointError("the log-likelihood is not finite at the starting values")
        information = here.scores.T @ here.scores
        back = whitening(information, objective.least_information(x, np.diag(information)))
        decrement = float(np.linalg.norm(back.T @ here.gradient))
        path.append(here.value)
        if report is not None:
            report(number, decrement)
        if decrement < tolerance or number == rounds:
            break
        surface = _Whitened(objective, x, back)
        scale = 0.3 * tolerance if decrement < FAR else max(0.1 * FAR, 0.01 * decrement)
        found = optimize.minimize(
            surface,
            np.zeros(len(x)),
            jac=True,
            method="L-BFGS-B",
            options={"maxfun": evaluations, "gtol": scale, "ftol": 1e-15, "maxcor": 20},
        )
        used += surface.used
        if not found.fun < -here.value and decrement < 10 * tolerance:
            break  # no further gain in floating point
        x = x + back @ found.x
    return Ascent(x, here.value, decrement, used, tuple(path))
