"""Words of R that a formula here writes otherwise: hints at the end of errors."""

from __future__ import annotations

__all__ = ["hint_for"]

_INSTEAD = {
    "TRUE": "Write True.",
    "FALSE": "Write False.",
    "T": "Write True.",
    "F": "Write False.",
    "NULL": "Write None.",
    "c": "Write the values in brackets: (3, 6).",
    "seq": "Write the values in brackets: (3, 6, 9).",
    "as.factor": "Write factor(x).",
    "as.ordered": "Make the column an ordered category.",
    "ordered": "Make the column an ordered category.",
    "as.numeric": "Make the column a number before the fit.",
    "as.integer": "Make the column a number before the fit.",
    "as.Date": "Make the column a number of days before the fit.",
    "relevel": "Write C(g, base='b').",
    "interaction": "Write a:b.",
    "ifelse": "Write a condition, as in I(x > 3).",
    "cut": "Make the groups a column before the fit.",
    "contr.SAS": "Write C(g, base='b') with the last level.",
    "s": "Write ns(x, 4), a spline of 4 degrees of freedom.",
    "te": "Write ns(x, 3):ns(z, 3).",
    "rcs": "Write ns(x, 4), a spline of 4 degrees of freedom.",
    "cre": "It stands right of a bar: (1 | cre(id, ~ x)).",
    "lspline": "Write pmax(x - 3, 0) for a change of slope at 3.",
}


def hint_for(name: str) -> str:
    """Return a sentence on what to write for a word of R, "" for any other."""
    return _INSTEAD.get(name, "")
