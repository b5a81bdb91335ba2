"""`scale(x, center=True, scale=True)`: R's scale; a missing value affects its own row only."""

from __future__ import annotations

import numpy as np

from dgmm.transforms.stateful import State, Stateful, Values, learnt, mean, numbers


def _fit(x: object, center: bool | float = True, scale: bool | float = True) -> State:
    values = learnt(x, "scale")
    middle = mean(values) if center is True else float(center)
    spread = float(scale) if scale is not True else _spread(values, middle)
    if scale is False:
        spread = 1.0
    if not spread > 0:
        raise ValueError("scale(): the column is constant, its standard deviation is zero")
    return {"center": middle, "scale": spread}


def _spread(values: Values, middle: float) -> float:
    """Return the root mean square with divisor n - 1, as R does with or without centring."""
    squares = values.total(lambda x: (x - middle) ** 2)
    return float(np.sqrt(squares / max(values.count - 1, 1)))


def _apply(x: object, state: State) -> np.ndarray:
    return (numbers(x, "scale") - state["center"]) / state["scale"]


scale = Stateful("scale", _fit, _apply)
