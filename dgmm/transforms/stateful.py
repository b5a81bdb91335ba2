"""What a basis is: `fit` learns a state from the data once, `apply` uses it on any data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

MOST = 1_000
"""Columns of a basis."""

# Plain JSON types only (numbers, strings, lists, dicts), so that a saved model holds no code.
State = dict[str, Any]


@dataclass(frozen=True)
class Stateful:
    """A transform with memory: knots, means and levels of the training rows serve new rows."""

    name: str
    fit: Callable[..., State]
    apply: Callable[[Any, State], Any]

    def __call__(self, x: Any, *arguments: Any, **options: Any) -> Any:
        """Evaluate at the data the state is learnt from."""
        return self.apply(x, self.fit(x, *arguments, **options))


def numbers(x: object, name: str) -> np.ndarray:
    """Return x as a float64 vector, or say that `name` needs numbers."""
    try:
        vector = np.asarray(x, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}() needs a numeric column") from error
    if vector.ndim != 1:
        raise ValueError(f"{name}() needs one numeric column, not {vector.ndim} dimensions")
    return vector


def present(x: np.ndarray, name: str) -> np.ndarray:
    """Return the non-missing values of x; a basis cannot be learnt from none."""
    values = x[~np.isnan(x)]
    if values.size == 0:
        raise ValueError(f"{name}() has no value to learn from: all are missing")
    return values


def whole(value: object, what: str, least: int) -> int:
    """Return value as an int from least to MOST, or say what is wrong."""
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not least <= value <= MOST
        or value != int(value)
    ):
        raise ValueError(f"{what} is a whole number from {least} to {MOST:,}, not {value!r}")
    return int(value)
