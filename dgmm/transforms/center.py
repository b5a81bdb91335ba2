"""`center(x)`: x minus its mean over the training rows."""

from __future__ import annotations

import numpy as np

from dgmm.transforms.stateful import State, Stateful, learnt, mean, numbers


def _fit(x: object) -> State:
    return {"center": mean(learnt(x, "center"))}


def _apply(x: object, state: State) -> np.ndarray:
    return numbers(x, "center") - state["center"]


center = Stateful("center", _fit, _apply)
