"""The layout of a report: numbers, columns, lines of eighty characters."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping

import numpy as np

__all__ = ["columns", "count", "decimals", "number", "wrap"]

WIDTH = 80


def number(value: float, digits: int = 4) -> str:
    """Four significant digits, fixed notation where it reads well."""
    if not math.isfinite(value):
        return "NA"
    if abs(value) < 1e-10:  # a variance at its boundary
        return "0"
    if 1e-4 <= abs(value) < 1e6:
        magnitude = math.floor(math.log10(abs(value)))
        return f"{value:.{max(0, digits - 1 - magnitude)}f}"
    return f"{value:.{digits - 1}e}"


def decimals(values: np.ndarray, errors: np.ndarray) -> list[str]:
    """Common decimals, so that the smallest standard error shows four significant digits."""
    known = errors[np.isfinite(errors) & (errors > 0)]
    smallest = float(known.min()) if len(known) else 1.0
    places = min(max(3 - math.floor(math.log10(smallest)), 0), 7)
    return [f"{value:.{places}f}" if math.isfinite(value) else "NA" for value in values.tolist()]


def columns(rows: list[list[str]], left: tuple[int, ...] = ()) -> list[str]:
    """Rows of cells as lines; columns in ``left`` are aligned there, the others on the right."""
    widths = [max(len(row[j]) for row in rows) for j in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if j in left else cell.rjust(width)
            for j, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(" ".join(cells).rstrip())
    return lines


def wrap(text: str, indent: str) -> str:
    """Lines of the width of a report; those after the first begin with ``indent``."""
    if len(text) <= WIDTH and not {"\n", "\t"} & set(text):  # most are one line
        return text.rstrip()
    return textwrap.fill(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def count(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Number of weights of some shapes."""
    return sum(math.prod(shape) for shape in shapes.values())
