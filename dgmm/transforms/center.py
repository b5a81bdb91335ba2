"""`center(x)`: x minus its mean over the training rows."""

from __future__ import annotations

import numpy as np

from dgmm.transforms.stateful import State, Stateful, numbers, present


def _fit(x: object) -> State:
    return {"center": float(np.mean(present(numbers(x, "center"), "center")))}


def _apply(x: object, state: State) -> np.ndarray:
    return numbers(x, "center") - state["center"]


center = Stateful("center", _fit, _apply)
