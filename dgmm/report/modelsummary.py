"""Several fits in one table: as text, LaTeX, HTML or a data frame."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dgmm.inference import wald
from dgmm.inference.criteria import aic, bic, groups_seen, nobs
from dgmm.record import Fitted
from dgmm.report.layout import WIDTH, columns
from dgmm.report.tidy import tidy_table
from dgmm.runtime.gate import gate
from dgmm.runtime.result_table import format_p

__all__ = ["ModelTable", "modelsummary"]

STATISTICS = ("std.error", "conf.int", "p.value", None)

SIGNIFICANCE = "* p < 0.05, ** p < 0.01, *** p < 0.001"

LATEX = {one: f"\\{one}" for one in "&%_#$"} | {
    "^": r"\^{}",
    "~": r"\~{}",
    "|": r"\textbar{}",
}


@dataclass(frozen=True)
class ModelTable:
    """A table of fits: ``print`` shows it, ``latex()``, ``html()`` and ``gt()`` write it.

    ``frame`` holds its cells, a column per fit.
    """

    frame: pd.DataFrame
    lines: tuple[int, ...]  # rows above which a line is drawn
    notes: tuple[str, ...]

    def __str__(self) -> str:
        names = list(self.frame.columns)
        left = max(len(str(label)) for label in self.frame.index)
        blocks, used = [[]], left  # type: ignore[var-annotated]
        for name in names:
            wide = 1 + max(len(str(name)), *(len(cell) for cell in self.frame[name]))
            if blocks[-1] and used + wide > WIDTH:
                blocks.append([])
                used = left
            blocks[-1].append(name)
            used += wide
        return "\n\n".join(self._text(block) for block in blocks) + "".join(
            f"\n{note}" for note in self.notes
        )

    __repr__ = __str__

    def _text(self, names: Sequence[str]) -> str:
        body = [[str(label), *cells] for label, cells in self._rows(names)]
        lines = columns([["", *names], *body], left=(0,))
        rule = "-" * max(map(len, lines))
        for at in sorted({0, *self.lines}, reverse=True):
            lines.insert(at + 1, rule)
        return "\n".join(lines)

    def _rows(self, names: Sequence[str]) -> list[tuple[str, list[str]]]:
        chosen = self.frame[list(names)]
        pairs = zip(self.frame.index, chosen.itertuples(index=False), strict=True)
        return [(str(label), list(cells)) for label, cells in pairs]

    def latex(self) -> str:
        """A tabular for LaTeX's booktabs."""
        names = list(self.frame.columns)
        head = " & ".join(["", *map(_latex, names)])
        lines = [rf"\begin{{tabular}}{{l{'c' * len(names)}}}", r"\toprule", rf"{head} \\"]
        for at, (label, cells) in enumerate(self._rows(names)):
            lines += [r"\midrule"] * (at in {0, *self.lines})
            lines.append(rf"{' & '.join(map(_latex, [label, *cells]))} \\")
        lines.append(r"\bottomrule")
        span = len(names) + 1
        lines += [rf"\multicolumn{{{span}}}{{l}}{{{_latex(note)}}} \\" for note in self.notes]
        return "\n".join([*lines, r"\end{tabular}"])

    def html(self) -> str:
        """A table for a web page."""
        names = list(self.frame.columns)
        head = "".join(f"<th>{html.escape(str(name))}</th>" for name in ["", *names])
        rows = []
        for at, (label, cells) in enumerate(self._rows(names)):
            style = ' style="border-top: 1px solid"' if at in {0, *self.lines} else ""
            body = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
            rows.append(f"<tr{style}><th>{html.escape(label)}</th>{body}</tr>")
        span = len(names) + 1
        notes = "".join(
            f'<tr><td colspan="{span}">{html.escape(note)}</td></tr>' for note in self.notes
        )
        return f"<table>\n<tr>{head}</tr>\n" + "\n".join(rows) + f"\n{notes}</table>"

    _repr_html_ = html

    def gt(self) -> Any:
        """A table of great-tables, which has to be installed."""
        from great_tables import GT  # optional

        labelled = self.frame.copy()
        labelled.insert(0, "", list(self.frame.index))
        found = GT(labelled)
        for note in self.notes:
            found = found.tab_source_note(note)
        return found


@gate
def modelsummary(
    *fits: Fitted,
    names: Sequence[str] | None = None,
    statistic: str | None = "std.error",
    digits: int = 3,
    stars: bool = True,
    exponentiate: bool = False,
    level: float = 0.95,
) -> ModelTable:
    """Estimates of several fits side by side, with what belongs to them below.

    Args:
        fits: fits of :func:`dgmm.mixed_model`.
        names: their titles, (1), (2), ... by default.
        statistic: below every estimate: "std.error", "conf.int", "p.value" or None.
        digits: decimals.
        stars: whether p values of fixed effects are marked.
        exponentiate: whether fixed effects are exponentials.
        level: of the intervals.

    Returns:
        A :class:`ModelTable`: print it, or take ``.latex()``, ``.html()``, ``.gt()``, ``.frame``.

    Raises:
        TypeError: something that is no fit.
        ValueError: no fit, a wrong number of names, or an unknown word.

    Example:
        >>> import dgmm
        >>> sleep = dgmm.datasets.load("sleepstudy")
        >>> one = dgmm.mixed_model("Reaction ~ Days + (1 | Subject)", sleep)
        >>> two = one.update(". ~ . - (1 | Subject) + (Days | Subject)")
        >>> dgmm.modelsummary(one, two).frame.loc["Days"].to_list()
        ['10.467***', '10.467***']
    """
    if not fits:
        raise ValueError("modelsummary() needs at least one fit")
    for fit in fits:
        if not isinstance(fit, Fitted):
            raise TypeError(f"modelsummary() needs fits from mixed_model(), not {fit!r}")
    titles = [f"({j})" for j in range(1, len(fits) + 1)] if names is None else list(names)
    if len(titles) != len(fits):
        raise ValueError(f"names has {len(titles)} titles for {len(fits)} fits")
    if statistic not in STATISTICS:
        raise ValueError(f"statistic is {', '.join(map(repr, STATISTICS))}, not {statistic!r}")
    tables = [tidy_table(fit, level=level, exponentiate=exponentiate) for fit in fits]
    cells: dict[tuple[str, str], dict[int, str]] = {}
    lines = []
    for effect in ("fixed", "ran_pars"):
        keys = dict.fromkeys(
            key for table in tables for key in _keys(table[table["effect"] == effect])
        )
        lines.append(len(cells))
        for key in keys:
            cells[key, ""] = {}
            if statistic is not None and effect == "fixed":
                cells[key, "under"] = {}
    for j, table in enumerate(tables):
        for key, row in zip(_keys(table), table.to_dict("records"), strict=True):
            cells[key, ""][j] = _estimate(row, digits, stars and row["effect"] == "fixed")
            if (key, "under") in cells:
                cells[key, "under"][j] = _below(row, statistic, digits)
    lines.append(len(cells))
    rows = [
        ("" if below else key, [found.get(j, "") for j in range(len(fits))])
        for (key, below), found in cells.items()
    ]
    rows += _criteria(fits)
    frame = pd.DataFrame([cells for _, cells in rows], columns=titles)
    frame.index = pd.Index([label for label, _ in rows])
    marks = lines[1:] if lines[1] < lines[2] else lines[2:]
    return ModelTable(frame, tuple(marks), (SIGNIFICANCE,) * stars)


def _keys(table: pd.DataFrame) -> list[str]:
    """The terms, those of zi= and dispersion= with the name of the part before them."""
    if "component" not in table:
        return list(table["term"])
    pairs = zip(table["component"], table["term"], strict=True)
    return [term if part == "cond" else f"{part}: {term}" for part, term in pairs]


def _estimate(row: dict[Any, Any], digits: int, marked: bool) -> str:
    p = row["p.value"]
    mark = wald.stars(float(p)).replace(".", "") if marked and np.isfinite(p) else ""
    return _number(row["estimate"], digits) + mark


def _below(row: dict[Any, Any], statistic: str | None, digits: int) -> str:
    if statistic == "conf.int":
        ends = (_number(row[name], digits) for name in ("conf.low", "conf.high"))
        return f"[{', '.join(ends)}]"
    if statistic == "p.value":
        return f"({format_p(row['p.value'])})"
    return f"({_number(row['std.error'], digits)})"


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "NA"


def _criteria(fits: Sequence[Fitted]) -> list[tuple[str, list[str]]]:
    groups = dict.fromkeys(name for fit in fits for name in groups_seen(fit))
    seen = [
        (
            f"Groups: {name}",
            [str(groups_seen(fit)[name][0]) if name in groups_seen(fit) else "" for fit in fits],
        )
        for name in groups
    ]
    return [
        ("Observations", [str(nobs(fit)) for fit in fits]),
        *seen,
        ("Log-likelihood", _of_maxima(fits, lambda fit: fit.estimate.log_likelihood)),
        ("AIC", _of_maxima(fits, aic)),
        ("BIC", _of_maxima(fits, bic)),
        ("Method", [fit.estimate.method.upper() for fit in fits]),
    ]


def _of_maxima(fits: Sequence[Fitted], what: Callable[[Fitted], float]) -> list[str]:
    """A number of every fit with a maximum, nothing of draws."""
    return ["" if fit.sampled else f"{what(fit):.1f}" for fit in fits]


def _latex(text: str) -> str:
    return "".join(LATEX.get(one, one) for one in str(text))
