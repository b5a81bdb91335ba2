"""R's elementary functions, value by value: `log(x, base)`, `sqrt(x)`, `pmin(x, z, 3)`, `I(x)`.

A function of numpy takes more than its operand (a place for the result, a type); one of a formula
takes the operand alone, so that no column can be written over.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np


def identity(x: Any) -> Any:
    """`I(x ** 2)`: arithmetic inside I() is arithmetic, not formula algebra."""
    return x


def log(x: Any, base: float | None = None) -> Any:
    """Return the natural logarithm, or the one to a base."""
    return np.log(x) if base is None else np.log(x) / np.log(base)


def elementwise(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a function of numpy as one of x alone."""

    def of_values(x: Any) -> Any:
        return function(x)

    return of_values


def pmin(x: Any, *others: Any) -> Any:
    """Return the least of several columns or numbers in every row."""
    return reduce(np.minimum, others, x)


def pmax(x: Any, *others: Any) -> Any:
    """Return the largest of several columns or numbers in every row."""
    return reduce(np.maximum, others, x)
