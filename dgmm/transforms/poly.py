"""`poly(x, degree, raw=False)`: R's orthogonal polynomials, by their three-term recurrence."""

from __future__ import annotations

import numpy as np

from dgmm.transforms.stateful import State, Stateful, numbers, present, whole


def _fit(x: object, degree: int = 1, raw: bool = False) -> State:
    values = present(numbers(x, "poly"), "poly")
    degree = whole(degree, "degree of poly()", 1)
    if raw:
        return {"degree": degree, "raw": True}
    if degree >= np.unique(values).size:
        raise ValueError(
            f"poly(): degree {degree} needs more than {degree} different values, "
            f"and the column has {np.unique(values).size}"
        )
    alpha: list[float] = []
    norm2: list[float] = [float(values.size)]
    before, now = np.zeros_like(values), np.ones_like(values)
    for k in range(degree):
        alpha.append(float(np.sum(values * now**2) / norm2[k]))
        ratio = norm2[k] / norm2[k - 1] if k else 0.0
        before, now = now, (values - alpha[k]) * now - ratio * before
        norm2.append(float(np.sum(now**2)))
    return {"degree": degree, "raw": False, "alpha": alpha, "norm2": norm2}


def _apply(x: object, state: State) -> np.ndarray:
    values = numbers(x, "poly")
    if state["raw"]:
        return values[:, None] ** np.arange(1, int(state["degree"]) + 1)
    alpha, norm2 = state["alpha"], state["norm2"]
    before, now, columns = np.zeros_like(values), np.ones_like(values), []
    for k in range(int(state["degree"])):
        ratio = norm2[k] / norm2[k - 1] if k else 0.0
        before, now = now, (values - alpha[k]) * now - ratio * before
        columns.append(now / np.sqrt(norm2[k + 1]))
    return np.column_stack(columns)


poly = Stateful("poly", _fit, _apply)
