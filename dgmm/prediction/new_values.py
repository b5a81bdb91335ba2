"""New rows beside those of the fit: numbers beyond its own, and values out of all scale."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dgmm.design import Table, as_numbers
from dgmm.record import Memory
from dgmm.runtime.warned import warn_user

__all__ = ["calculable", "tell_beyond"]

NEAR = 0.01
"""Share of the range of a variable by which a new value may be beyond it without a word."""


def tell_beyond(
    name: str | None,
    new: Tensor | np.ndarray,
    known: Tensor | np.ndarray,
    what: str,
    of: str = "rows",
) -> None:
    """Warn where new values lie below or above all those of the fit, and not near them.

    Args:
        name: the variable, such as the time; None where the model has none.
        new: its values in the new rows, (N,).
        known: those beside the outcomes of the fit, (M,).
        what: what the new rows are in the warning.
        of: what is counted there.
    """
    if name is None or not len(known) or not len(new):
        return
    low, high = float(known.min()), float(known.max())
    near = NEAR * (high - low)
    beyond = new[(new < low - near) | (new > high + near)]
    if len(beyond):
        ends = sorted({f"{float(end):g}" for end in (beyond.min(), beyond.max())}, key=float)
        warn_user(
            f"`{name}` of {what} lies outside of the {low:g} to {high:g} of the fit in "
            f"{len(beyond)} of {len(new)} {of} ({' to '.join(ends)}): the model is "
            "extrapolated"
        )


@contextmanager
def calculable(memory: Memory, **frames: Any) -> Iterator[None]:
    """Make an error in words of what double precision cannot hold.

    Args:
        memory: that of the fit.
        frames: the frames given, by the name of their argument; None where not given.

    Raises:
        ValueError: a number has overflowed, or a covariance matrix has lost its rank, inside.
    """
    try:
        yield
    except (FloatingPointError, np.linalg.LinAlgError, torch.linalg.LinAlgError) as error:
        given = {what: Table.of(frame) for what, frame in frames.items() if frame is not None}
        found = [words for what, table in given.items() for words in _beyond(memory, table, what)]
        found = found or [
            words for what, table in given.items() for words in _outcomes(memory, table, what)
        ]
        raise ValueError(
            "the predictions cannot be calculated in double precision. Look for values out of "
            f"scale: {'; '.join(found) or 'those of the fit'}"
        ) from error


def _beyond(memory: Memory, table: Table, what: str) -> Iterator[str]:
    """The numbers among the covariates that reach beyond those of the fit, in words."""
    for name, column in memory.covariates.items():
        if column.variable.kind == "number":
            known, values = column.values, _numbers(table, name)
            if (values < known.min()).any() or (values > known.max()).any():
                yield f"`{name}` of {what} runs {_ends(values)}, at the fit {_ends(known)}"


def _outcomes(memory: Memory, table: Table, what: str) -> Iterator[str]:
    """The outcomes that are numbers, in words."""
    for name in memory.spec.parsed().response.names:
        if np.isfinite(values := _numbers(table, name)).any():
            yield f"the outcome `{name}` of {what} runs {_ends(values)}"


def _numbers(table: Table, name: str) -> np.ndarray:
    """A column of numbers, (N,); no values of another one, and where there is none."""
    if name not in table.names or not pd.api.types.is_numeric_dtype(table.series(name)):
        return np.zeros(0)
    return as_numbers(table.series(name), f"`{name}` is a number")


def _ends(values: np.ndarray) -> str:
    return f"from {np.nanmin(values):.3g} to {np.nanmax(values):.3g}"
