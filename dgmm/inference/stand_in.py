"""Columns that are known by name alone, for the comparison of models whose rows are not in memory.

Every name has a vector of its own, of random numbers: columns of one name are the same column,
and those of different names are independent, so that a span of columns holds another where it has
all of its names.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

__all__ = ["SIZE", "named_columns", "named_groups"]

SIZE = 2048
"""Numbers of a vector: more than there are columns."""


def named_columns(names: Sequence[str]) -> np.ndarray:
    """The vectors of some columns, (SIZE, p)."""
    found = [np.random.default_rng(_seed(name)).standard_normal(SIZE) for name in names]
    return np.stack(found, axis=1) if found else np.empty((SIZE, 0))


def named_groups(name: str) -> np.ndarray:
    """A partition that stands for that of a grouping factor, (SIZE,)."""
    return np.random.default_rng(_seed(name)).integers(0, 50, SIZE)


def _seed(name: str) -> int:
    return zlib.crc32(name.encode())
