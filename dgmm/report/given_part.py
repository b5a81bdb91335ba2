"""The part of a report about cre(): effects within and between subjects."""

from __future__ import annotations

import pandas as pd

from dgmm.inference.wald import stars
from dgmm.inference.within_between import mundlak, within_between
from dgmm.record import Fitted
from dgmm.report.layout import columns, decimals, wrap
from dgmm.report.tables import Tables
from dgmm.runtime.result_table import format_p

__all__ = ["given_part"]


def given_part(fit: Fitted, tables: Tables) -> str | None:
    """Effects within and between subjects, and the test that they are equal."""
    if "cre" not in fit.memory.spec.formula:  # reading it takes as long as a small fit
        return None
    terms = [term for term in fit.memory.spec.parsed().latents if term.given is not None]
    if not terms:
        return None
    table, test = within_between(fit), mundlak(fit)
    groups = ", ".join(dict.fromkeys(term.group for term in terms))
    lines = [f"Effects within and between {groups}, and the test that they are equal:"]
    if len(table):
        lines += _table_lines(table)
    if any(term.given.networks for term in terms if term.given is not None):
        note = (
            "Between is linear here: a network of the means adds to it, and leaves Within as it is"
        )
        lines.append(wrap(note, "   "))
    elif test is not None:
        p = format_p(test["Pr(>Chisq)"])
        sign = "" if p.startswith("<") else "= "
        lines.append(
            wrap(
                f"Mundlak test that random intercept and covariates are uncorrelated: "
                f"chisq({test['Df']:.0f}) = {test['Chisq']:.4g}, p {sign}{p}",
                "   ",
            )
        )
    return "\n".join(lines) if len(lines) > 1 else None


def _table_lines(table: pd.DataFrame) -> list[str]:
    head = ["", "Within", "Std. Error", "Between", "Std. Error", "Pr(>|z|)", ""]
    values = [table.iloc[:, k].to_numpy() for k in range(4)]
    errors = [values[k] for k in (1, 1, 3, 3)]
    cells = [decimals(value, error) for value, error in zip(values, errors, strict=True)]
    tail = table["Pr(>|z|)"]
    rows = [head]
    for name, *some, p in zip(table.index, *cells, tail, strict=True):
        rows.append([name, *some, format_p(p), stars(p)])
    return columns(rows, left=(0, len(head) - 1))
