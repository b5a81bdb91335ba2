"""Rows that a model cannot use, because a covariate, a group, a weight or an offset is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

__all__ = ["LeftOut", "complete_rows"]


@dataclass(frozen=True)
class LeftOut:
    """The rows left out of a frame; a row with several gaps counts for each of its columns."""

    rows: int = 0
    of: int = 0  # rows of the frame
    columns: dict[str, int] = field(default_factory=dict)  # gaps by column

    def __str__(self) -> str:
        if not self.rows:
            return f"none of {self.of} rows has missing values"
        counts = ", ".join(f"{gaps} for `{name}`" for name, gaps in self.columns.items())
        return f"{self.rows} of {self.of} rows have missing values and are left out: {counts}"


def complete_rows(
    missing: Mapping[str, np.ndarray], size: int, strict: bool
) -> tuple[np.ndarray, LeftOut]:
    """Positions of the rows (of ``size``) without a gap, and a count of the others by column.

    Args:
        missing: by column where it has no value, (N,) bool.
        size: number of rows.
        strict: a gap is an error.

    Raises:
        ValueError: no complete row, or a gap where none is allowed.
    """
    gaps = {name: int(mask.sum()) for name, mask in missing.items() if mask.any()}
    dropped = np.zeros(size, dtype=bool)
    for name in gaps:
        dropped |= missing[name]
    found = LeftOut(int(dropped.sum()), size, gaps)
    counts = ", ".join(f"{count} in `{name}`" for name, count in gaps.items())
    if gaps and strict:
        raise ValueError(
            f"{found.rows} of {size} rows have missing values ({counts}); "
            "missing_covariates='drop' would leave them out"
        )
    if dropped.all():
        raise ValueError(f"no complete row is left: all {size} rows have missing values ({counts})")
    return np.flatnonzero(~dropped), found
