"""`poly(x, degree, raw=False)`: R's orthogonal polynomials, by their three-term recurrence."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from dgmm.transforms.stateful import State, Stateful, learnt, numbers, whole


def _fit(x: object, degree: int = 1, raw: bool = False) -> State:
    values = learnt(x, "poly")
    degree = whole(degree, "degree of poly()", 1)
    if raw:
        return {"degree": degree, "raw": True}
    different = values.different(degree + 1)
    if degree >= different:
        raise ValueError(
            f"poly(): degree {degree} needs more than {degree} different values, "
            f"and the column has {different}"
        )
    alpha: list[float] = []
    norm2: list[float] = [float(values.count)]
    for k in range(degree):
        alpha.append(values.total(partial(_weighed, alpha=alpha, norm2=norm2)) / norm2[k])
        norm2.append(values.total(partial(_squared, alpha=tuple(alpha), norm2=tuple(norm2))))
    return {"degree": degree, "raw": False, "alpha": alpha, "norm2": norm2}


def _apply(x: object, state: State) -> np.ndarray:
    values = numbers(x, "poly")
    if state["raw"]:
        return values[:, None] ** np.arange(1, int(state["degree"]) + 1)
    found = _polynomials(values, state["alpha"], state["norm2"])
    columns = [one / np.sqrt(norm2) for one, norm2 in zip(found, state["norm2"], strict=True)]
    return np.column_stack(columns[1:])


def _polynomials(x: np.ndarray, alpha: Sequence[float], norm2: Sequence[float]) -> list[np.ndarray]:
    """The polynomials of degree 0, 1, ... at x, one more than there are ``alpha``."""
    before, now = np.zeros_like(x), np.ones_like(x)
    found = [now]
    for k, middle in enumerate(alpha):
        ratio = norm2[k] / norm2[k - 1] if k else 0.0
        before, now = now, (x - middle) * now - ratio * before
        found.append(now)
    return found


def _squared(x: np.ndarray, alpha: Sequence[float], norm2: Sequence[float]) -> np.ndarray:
    """The square of the last polynomial."""
    return np.asarray(_polynomials(x, alpha, norm2)[-1] ** 2)


def _weighed(x: np.ndarray, alpha: Sequence[float], norm2: Sequence[float]) -> np.ndarray:
    """The square of the last polynomial times x."""
    return x * _squared(x, alpha, norm2)


poly = Stateful("poly", _fit, _apply)
