"""Dynamic prediction: what follows, given what was seen up to each of several times.

p(y_i(t) | y_i(s), s <= s_k),   t > s_k,   for landmarks s_1, ..., s_K
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dgmm.design import Table, as_numbers
from dgmm.record import Memory
from dgmm.runtime.listing import listed
from dgmm.runtime.result_table import ResultTable
from dgmm.runtime.warned import warn_user

__all__ = ["at_landmarks", "clock_of"]


def clock_of(named: str | None, memory: Memory, subject: np.ndarray) -> str:
    """The column that landmarks are values of: the one named, the time of the model, or else the
    one number of the formula that varies within subjects and takes more than two values.

    subject: of the rows of the fit, (N,).

    Raises:
        ValueError: no such number, or several.
    """
    clock = named or memory.spec.time_name
    if clock is not None:
        return clock
    numbers = [
        name
        for name, one in memory.covariates.items()
        if one.variable.kind == "number" and _is_course(one.values, subject)
    ]
    if len(numbers) == 1:
        return numbers[0]
    found = f"and the formula has {listed(f'`{one}`' for one in numbers) or 'none'}"
    raise ValueError(
        "at= needs the time that landmarks are values of: a number left of a bar, as in (time | "
        f"id), or the only one that varies within `{memory.groups[0]}` and is no indicator, "
        f"{found}. Name its column, as in time='visit'"
    )


def _is_course(values: np.ndarray, subject: np.ndarray) -> bool:
    """Whether a number goes on within subjects; one of two values is an indicator."""
    grouped = pd.Series(values).groupby(subject)
    return len(np.unique(values)) > 2 and bool((grouped.max() > grouped.min()).any())


def at_landmarks(
    at: Sequence[float],
    rows: Any,
    history: Any,
    clock: str,
    group: str,
    of: Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame],
) -> pd.DataFrame:
    """Predictions of the rows after each landmark from the history up to it.

    Args:
        at: the landmarks, in units of the time of the model.
        rows: to predict; None for those of ``history``.
        history: the frame that holds the past.
        clock: the column of the time, see :func:`clock_of`.
        group: the column of the subjects.
        of: predictions of some rows given some past ones.

    Returns:
        A frame indexed by landmark (``at``) and label of the row: subject, time, then the columns
        of the prediction. Its note says how long a subject took.

    Raises:
        ValueError: no time in a frame; a landmark after which there is no row.
    """
    past = Table(history).frame()
    target = past if rows is None else Table(rows).frame()
    moments = _numbers(at)
    before = _times(past, clock, group, "history")
    when = before if rows is None else _times(target, clock, group, "newdata")
    parts, begun, subjects = {}, time.perf_counter(), 0
    for moment in moments:
        ahead, known = target[when > moment], past[before <= moment]
        if not len(ahead):
            raise ValueError(
                f"at={moment:g}: no row is later; `{clock}` of newdata ends at {np.nanmax(when):g}"
            )
        if not len(known):
            raise ValueError(
                f"at={moment:g}: nothing has been seen by then; `{clock}` of history begins at "
                f"{np.nanmin(before):g}"
            )
        found = of(ahead, known)
        own = [name for name in (group, clock) if name not in found]
        parts[moment] = pd.concat([ahead[own], pd.DataFrame(found)], axis=1)
        subjects += ahead[group].nunique()
    spent = (time.perf_counter() - begun) / max(subjects, 1)
    marks = f"{len(moments)} landmarks" if len(moments) > 1 else "a landmark"
    return ResultTable(
        pd.concat(parts, names=["at"]),
        title=f"Predictions of what follows {marks} of `{clock}`",
        notes=[f"{1000 * spent:.3g} ms for a subject at a landmark"],
    )


def _times(frame: pd.DataFrame, clock: str, group: str, what: str) -> np.ndarray:
    """The times of a frame, (N,); says how many rows have none, and so no place."""
    for column in (clock, group):
        if column not in frame.columns:
            raise ValueError(f"{what} has no column `{column}`, which at= needs")
    times = as_numbers(frame[clock], f"`{clock}` of {what} is one number per row")
    gaps = int(np.isnan(times).sum())
    if gaps == len(times):
        found = f"missing in all of its {gaps} rows" if gaps else "empty: it has no rows"
        raise ValueError(f"`{clock}` of {what} is {found}")
    if gaps:
        warn_user(
            f"`{clock}` is missing in {gaps} of {len(times)} rows of {what}: they are neither "
            "before nor after a landmark, and left out"
        )
    return times


def _numbers(at: Any) -> list[float]:
    given = [at] if isinstance(at, int | float | np.number) else list(at)
    wrong = [one for one in given if isinstance(one, str) or not np.isfinite(one)]
    if wrong or not given:
        raise ValueError(
            f"at= is a time or a list of times, such as [1, 2]; found {wrong[0] if wrong else at!r}"
        )
    return [float(one) for one in given]
