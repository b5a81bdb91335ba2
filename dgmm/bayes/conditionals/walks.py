"""Metropolis steps of many blocks at once, their lengths learnt during warm-up.

With L L' = P the curvature of the target near its mode and g its gradient at x,

    random walk   x' = x + s L'^-1 e
    Langevin      x' = x + {1 - (1 - s^2)^(1/2)} P^-1 g + s L'^-1 e,   0 < s <= 1,

accepted with probability min{1, p(x') q(x | x') / [p(x) q(x' | x)]}. The second keeps a normal
target of curvature P whatever s is, and s = 1 draws from it; of other targets it is the step of
Gamerman (1997) with a curvature that stays. Log lengths move towards the acceptance rate that is
best and stand still after warm-up: a chain that goes on learning would not keep its distribution.

Roberts, Gelman and Gilks (1997), Annals of Applied Probability 7, 110-120; Gamerman (1997),
Statistics and Computing 7, 57-68; Andrieu and Thoms (2008), ibid. 18, 343-373; Cotter, Roberts,
Stuart and White (2013), Statistical Science 28, 424-446.
"""

from __future__ import annotations

import numpy as np

__all__ = ["LANGEVIN", "Langevin", "LangevinOfEach", "aim", "decide", "tuned"]

LANGEVIN = 0.7
"""The acceptance rate that Langevin steps are tuned to, where the longest has less."""

FAR = np.log(1e4)
"""A log length stays within this distance of zero."""


def aim(dimensions: int) -> float:
    """The acceptance rate that is best: 0.44 in one dimension, 0.35 in two, towards 0.234."""
    return {1: 0.44, 2: 0.35}.get(dimensions, 0.27)


def decide(ratio: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Which proposals are accepted, by their log ratios: one that is not a number never is."""
    return np.log(uniform) < np.where(np.isnan(ratio), -np.inf, ratio)


def tuned(
    log_scale: np.ndarray, ratio: np.ndarray, gain: float, rate: float, most: float = FAR
) -> np.ndarray:
    """Log lengths, at most ``most``, moved towards a rate by the probabilities of acceptance."""
    if not gain:
        return log_scale
    found = np.exp(np.minimum(np.where(np.isnan(ratio), -np.inf, ratio), 0.0))
    moved: np.ndarray = np.clip(log_scale + gain * (found - rate), -FAR, most)
    return moved


class Langevin:
    """Langevin steps of C vectors (d, C) under the curvature P (d, d)."""

    def __init__(self, P: np.ndarray) -> None:
        self.root = np.linalg.inv(np.linalg.cholesky(P)).T  # P^-1 = root root'

    def _out(self, values: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.root @ values
        return found

    def _in(self, values: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.root.T @ values
        return found

    def step(self, log_scale: np.ndarray, slope: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """x' - x from the gradient (d, C) and standard normal noise (d, C)."""
        s, a = _lengths(log_scale)
        return self._out(a * self._in(slope) + s * noise)

    def back(
        self, log_scale: np.ndarray, slope: np.ndarray, new: np.ndarray, noise: np.ndarray
    ) -> np.ndarray:
        """log q(x | x') - log q(x' | x), (C,), from the gradients before and after."""
        s, a = _lengths(log_scale)
        other = noise + (a / s) * self._in(slope + new)
        return 0.5 * (np.square(noise).sum(0) - np.square(other).sum(0))


class LangevinOfEach(Langevin):
    """They with a curvature of its own for every chain, P (d, d, C)."""

    def __init__(self, P: np.ndarray) -> None:
        root = np.linalg.inv(np.linalg.cholesky(np.moveaxis(P, -1, 0)))
        self.root = np.transpose(root, (2, 1, 0))

    def _out(self, values: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.einsum("abc,bc->ac", self.root, values)
        return found

    def _in(self, values: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.einsum("abc,ac->bc", self.root, values)
        return found


def _lengths(log_scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    s = np.exp(log_scale)
    return s, 1 - np.sqrt(np.maximum(1 - np.square(s), 0.0))
