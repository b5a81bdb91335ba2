"""Maximum likelihood in standard-error units: scoring steps, and L-BFGS where they fail.

With C C' the information at x_0, one unit of z = C'(x - x_0) is about one standard error, whatever
the scale of a parameter; the norm of the gradient in z is the Newton decrement, and a scoring step
is z = gradient. It is judged by the decrement: a large log-likelihood has no digits for the last
steps to a maximum. Where it does not come nearer, L-BFGS goes on in the coordinates z.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from scipy import optimize

from dgmm.numerics.walled import Walled

__all__ = ["Along", "Ascent", "Evaluation", "Objective", "ascend", "whitening"]

FLOOR = 1e-8
FAR = 1.0
MOST = 400
"""Evaluations after which no round begins: ordinary searches take a tenth of them."""

ROUNDING = 1e-12
"""Change of the objective, relative to it, that may be rounding."""


Along = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Where a step (P,) from a point (P,) leads."""


class Evaluation(NamedTuple):
    """An objective and its gradient at one point, subject by subject where asked for."""

    value: float
    gradient: np.ndarray  # (P,)
    scores: np.ndarray | None  # (n, P), (0, P) where there are no subjects


class Objective(Protocol):
    """What is maximised."""

    def value_and_gradient(self, x: np.ndarray, scores: bool = False) -> Evaluation:
        """Value, gradient (P,) and, if asked for, the scores of the subjects (n, P)."""

    def information(self, x: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The information about x, (P, P), after the call that gave the ``scores`` (n, P)."""

    def keep(self) -> None:
        """Take note that the search goes on from the point of the last call."""

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
    """Minus the objective in whitened coordinates."""

    objective: Objective
    origin: np.ndarray
    back: np.ndarray  # x = origin + back z
    used: int = 0

    def __call__(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        self.used += 1
        found = self.objective.value_and_gradient(self.origin + self.back @ z)
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
    value = np.abs(value)  # far from a maximum what was observed may be negative
    value = np.maximum(value, FLOOR * value.max())
    back: np.ndarray = vector / np.sqrt(value) / root[:, None]
    return back


class _Place(NamedTuple):
    x: np.ndarray
    value: float
    gradient: np.ndarray
    back: np.ndarray  # x + back z is z standard errors away
    decrement: float

    @classmethod
    @np.errstate(over="ignore", invalid="ignore")
    def at(cls, objective: Objective, x: np.ndarray) -> _Place:
        """A point with its metric; FloatingPointError where anything is not finite."""
        try:
            found = objective.value_and_gradient(x, scores=True)
        except (np.linalg.LinAlgError, torch.linalg.LinAlgError) as error:
            raise FloatingPointError("a precision is not positive definite") from error
        assert found.scores is not None
        if not (np.isfinite(found.value) and np.isfinite(found.scores).all()):
            raise FloatingPointError("the log-likelihood is not finite at the starting values")
        information = objective.information(x, found.scores)
        if not np.isfinite(information).all():
            raise FloatingPointError("the information about the parameters is not finite")
        back = whitening(information, objective.least_information(x, np.diag(information)))
        decrement = float(np.linalg.norm(back.T @ found.gradient))
        return cls(x, found.value, found.gradient, back, decrement)

    def scored(self, objective: Objective, along: Along) -> _Place | None:
        """A scoring step further; None where that is not nearer to a maximum."""
        try:
            there = _Place.at(objective, along(self.x, self.back @ (self.back.T @ self.gradient)))
        except FloatingPointError:
            return None
        least = self.value - ROUNDING * abs(self.value)
        nearer = there.decrement < 0.5 * self.decrement and there.value >= least
        return there if nearer else None


def ascend(
    objective: Objective,
    x: np.ndarray,
    *,
    tolerance: float,
    rounds: int = 16,
    evaluations: int = 60,
    report: Callable[[int, float], None] | None = None,
    along: Along = np.add,
) -> Ascent:
    """Maximise until the decrement is below ``tolerance``; every round renews the metric.

    The first search, whose metric is that of the start, is cut short once it has come near.
    ``along`` says where a step from x leads: to x + step, but for terms of its square.
    """
    here, used = _Place.at(objective, x), 1
    path = [here.value]
    for number in range(rounds + 1):
        objective.keep()
        if report is not None:
            report(number, here.decrement)
        if here.decrement < tolerance or number == rounds or used >= MOST:
            break
        there, used = here.scored(objective, along), used + 1
        if there is None:
            z, gain, more = _searched(objective, here, tolerance, evaluations)
            used += more + 1
            there = _Place.at(objective, here.x + here.back @ z)
            if gain <= ROUNDING * abs(here.value) and there.decrement >= here.decrement:
                break  # no further gain in floating point
        here = there
        path.append(here.value)
    return Ascent(here.x, here.value, here.decrement, used, tuple(path))


def _searched(
    objective: Objective, here: _Place, tolerance: float, evaluations: int
) -> tuple[np.ndarray, float, int]:
    """L-BFGS in the coordinates z of a place: z, the gain, and the evaluations used."""
    surface = _Whitened(objective, here.x, here.back)
    far = max(0.1 * FAR, 0.01 * here.decrement)
    found = optimize.minimize(
        Walled(surface, start=-here.value),
        np.zeros(len(here.x)),
        jac=True,
        method="L-BFGS-B",
        callback=lambda _: objective.keep(),
        options={
            "maxfun": evaluations,
            "gtol": 0.3 * tolerance if here.decrement < FAR else far,
            "ftol": 1e-15,
            "maxcor": 20,
        },
    )
    return found.x, -float(found.fun) - here.value, surface.used
