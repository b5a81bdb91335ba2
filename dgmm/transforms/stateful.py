"""What a basis is: `fit` learns a state from the data once, `apply` uses it on any data."""

from __future__ import annotations

from abc import ABC, abstractmethod
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
    by_levels: bool = False  # it learns which values there are, however often each occurs

    def __call__(self, x: Any, *arguments: Any, **options: Any) -> Any:
        """Evaluate at the data the state is learnt from."""
        return self.apply(x, self.fit(x, *arguments, **options))


class Values(ABC):
    """The values that are there, of the training rows, as far as a state is learnt from them."""

    @property
    @abstractmethod
    def count(self) -> int:
        """How many there are."""

    @property
    @abstractmethod
    def ends(self) -> tuple[float, float]:
        """The least and the largest of them."""

    @abstractmethod
    def total(self, function: Callable[[np.ndarray], np.ndarray]) -> float:
        """The sum of a function, elementwise, over all of them."""

    @abstractmethod
    def quantiles(self, at: np.ndarray, low: float, high: float) -> np.ndarray:
        """Quantiles (R's type 7) of those from low to high."""

    @abstractmethod
    def different(self, most: int) -> int:
        """How many different values there are, counted up to ``most``."""


@dataclass(frozen=True)
class InMemory(Values):
    """Those of an array."""

    values: np.ndarray

    @property
    def count(self) -> int:
        return self.values.size

    @property
    def ends(self) -> tuple[float, float]:
        return self.values.min(), self.values.max()

    def total(self, function: Callable[[np.ndarray], np.ndarray]) -> float:
        return float(np.sum(function(self.values)))

    def quantiles(self, at: np.ndarray, low: float, high: float) -> np.ndarray:
        inside = self.values[(self.values >= low) & (self.values <= high)]
        return np.asarray(np.quantile(inside, at))

    def different(self, most: int) -> int:
        return min(np.unique(self.values).size, most)


def learnt(x: object, name: str) -> Values:
    """The values of a column to learn from: an array without its missing ones, or as they come."""
    return x if isinstance(x, Values) else InMemory(present(numbers(x, name), name))


def mean(values: Values) -> float:
    """The mean of the values."""
    return values.total(_itself) / values.count


def _itself(x: np.ndarray) -> np.ndarray:
    return x


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
