"""Anova: a table of tests with the remarks that belong to it."""

from __future__ import annotations

import html
import textwrap
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dgmm.inference.wald import stars
from dgmm.runtime.result_table import format_p

__all__ = ["Anova"]


@dataclass(frozen=True)
class Anova:
    """A table of tests; ``str`` prints it, ``table`` is a data frame with named rows.

    notes: what was assumed or could not be tested, in words.
    """

    title: str
    table: pd.DataFrame
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = pd.DataFrame(index=self.table.index)
        for name in self.table:
            shown[name] = [_cell(name, value) for value in self.table[name]]
        last = self.table.columns[-1]
        p_values = [name for name in self.table if str(name).startswith("Pr(")]
        if p_values and last == p_values[-1]:
            shown[""] = [stars(v) if np.isfinite(v) else "" for v in self.table[last]]
        parts = [self.title, shown.to_string()]
        parts += [textwrap.fill(f"* {note}", 88, subsequent_indent="  ") for note in self.notes]
        return "\n".join(line.rstrip() for part in parts for line in part.splitlines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        body = self.table.to_html(float_format=lambda x: f"{x:.5g}", na_rep="")
        return f"<p>{html.escape(self.title)}</p>\n{body}\n<ul>{notes}</ul>"


def _cell(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    number = float(value)  # type: ignore[arg-type]
    if not np.isfinite(number):
        return ""
    if name.startswith("Pr("):
        return format_p(number)
    if name in ("Df", "npar", "NumDF") and number == round(number):
        return f"{number:.0f}"
    if name in ("AIC", "BIC", "logLik", "deviance"):
        return f"{number:.2f}"
    return f"{number:.4g}"
