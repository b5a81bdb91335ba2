"""A data frame of results that says what it holds and prints whole."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["Cells", "ResultTable", "format_p"]

WIDTH = 80

MANY = 60
"""Rows above which the middle of a table is not printed."""

ROUNDING = 1e-8
"""Share of the largest number of a column up to which another one is shown as zero."""

P_VALUES = ("Pr(", "p.value")
"""How the names of columns of p values begin."""


def format_p(p: float) -> str:
    """A p value as R prints it."""
    if not np.isfinite(p):
        return "NA"
    if p < 2e-16:
        return "<2e-16"
    if p < 1e-4:
        return f"{p:.2e}"
    return f"{p:.4f}" if p >= 0.01 else f"{p:.{2 - int(np.floor(np.log10(p)))}f}"


class ResultTable(pd.DataFrame):
    """A data frame with a title and notes, which every copy keeps.

    ``print`` shows all its columns within 80 characters; in all else it is a data frame.
    """

    _metadata = ["title", "notes"]  # noqa: RUF012  # by these names pandas copies them

    def __init__(
        self, data: Any = None, *args: Any, title: str = "", notes: Sequence[str] = (), **more: Any
    ) -> None:
        super().__init__(data, *args, **more)
        object.__setattr__(self, "title", title)
        object.__setattr__(self, "notes", tuple(notes))

    @property
    def _constructor(self) -> type[ResultTable]:
        return ResultTable

    def __repr__(self) -> str:
        lines = [textwrap.fill(self.title, WIDTH)] if self.title else []
        lines.append(_body(self))
        lines += [textwrap.fill(f"* {one}", WIDTH, subsequent_indent="  ") for one in self.notes]
        return "\n".join(lines)

    __str__ = __repr__

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        title = f"<p>{html.escape(self.title)}</p>\n" if self.title else ""
        return f"{title}{_formatted(self).to_html()}" + (f"\n<ul>{notes}</ul>" * bool(notes))


@dataclass(frozen=True, eq=False)
class Cells:
    """Columns of a table by name, of which a data frame takes longer than a small fit."""

    index: Sequence[str]
    columns: Mapping[str, Any]  # (r,) each

    def __len__(self) -> int:
        return len(self.index)

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> Any:
        return self.columns[name]

    def frame(self) -> ResultTable:
        """The data frame."""
        return ResultTable(dict(self.columns), index=list(self.index))


def _body(table: pd.DataFrame) -> str:
    if not len(table.columns):
        return f"{len(table)} rows, no columns"
    numbered = isinstance(table.index, pd.RangeIndex)
    left_out = len(table) - MANY
    ends = [*range(5), *range(-5, 0)]
    shown = _formatted(table.iloc[ends] if left_out > 0 else table)
    text: str = shown.to_string(line_width=WIDTH, index=not numbered or left_out > 0)
    lines = [line.rstrip().removesuffix("\\").rstrip() for line in text.splitlines()]
    if left_out > 0:
        lines.append(f"{len(table)} rows, of which the first and last five are shown")
    return "\n".join(lines)


def _formatted(table: pd.DataFrame) -> pd.DataFrame:
    """The cells as text, every column of numbers with one number of decimals."""
    found = {}
    for at, name in enumerate(table.columns):
        column = table.iloc[:, at]
        if not pd.api.types.is_float_dtype(column.dtype):
            found[at] = [_cell(value) for value in column]
        elif str(name).startswith(P_VALUES):
            found[at] = [format_p(value) for value in column]
        else:
            found[at] = numbers(column.to_numpy(float))
    shown = pd.DataFrame(found, index=table.index, dtype=object)
    shown.columns = table.columns
    return shown


def _cell(value: Any) -> str:
    """A word, nothing where there is none; a number among words."""
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return ""
    return numbers(np.array([value]))[0] if isinstance(value, float) else str(value)


def numbers(values: np.ndarray) -> list[str]:
    """Numbers with as many decimals as the smallest of them needs for three digits, at most six.

    Decimals that are zero in all of them are not shown; a number of which these decimals show
    nothing but zeros has an exponent.
    """
    size = np.abs(values[np.isfinite(values) & (values != 0)])
    if not len(size):
        return [_number(value, "g") for value in values]
    if size.max() >= 1e7 or size.max() < 1e-4:
        return [_number(value, ".3e") for value in values]
    smallest = max(float(size.min()), 1e-3 * float(size.max()))
    places = int(np.clip(2 - np.floor(np.log10(smallest)), 0, 6))
    rounded = values[np.isfinite(values)].round(places)
    while places and np.array_equal(rounded, rounded.round(places - 1)):
        places -= 1
    shown = [_number(value, f".{places}f") for value in values]
    least = ROUNDING * size.max()
    return [
        _number(value, ".1e") if abs(value) > least and not text.strip("-0.") else text
        for value, text in zip(values, shown, strict=True)
    ]


def _number(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else "NA" if np.isnan(value) else str(value)
