"""The record of the tests of a panel, and how it prints."""

from __future__ import annotations

import html
import textwrap
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dgmm.inference.tables import Anova

__all__ = ["PanelTest"]

HEAD = "Standard errors in (), robust to any dependence within subjects in []"


@dataclass(frozen=True)
class PanelTest:
    """Estimators of a panel side by side, and tests between them; ``str`` prints it.

    table: a row per coefficient; columns (estimator, "Estimate" | "Std. Error" | "Robust SE"),
        missing where an estimator has no such coefficient. tests: Chisq, Df, Pr(>Chisq).
    partial_effects: of the correlated random effects model, None where the link is the identity.
    variances: ``s_a`` and ``s_e`` of Swamy and Arora. notes: what could not be tested, in words.
    """

    formula: str
    table: pd.DataFrame
    tests: pd.DataFrame
    partial_effects: pd.DataFrame | None
    variances: pd.Series
    notes: tuple[str, ...]

    def __str__(self) -> str:
        title = textwrap.fill(f"Panel estimates of {self.formula}", 88, subsequent_indent="  ")
        parts = [title, HEAD, self._estimates()]
        parts += ["", str(Anova("Tests", self.tests, self.notes))]
        if self.partial_effects is not None:
            parts += ["", "Average partial effects of correlated random effects"]
            parts.append(str(self.partial_effects))
        return "\n".join(parts)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        tables = [self.table, self.tests]
        tables += [] if self.partial_effects is None else [self.partial_effects]
        body = [one.to_html(float_format=lambda x: f"{x:.5g}", na_rep="") for one in tables]
        return "\n".join([f"<p>{html.escape(self.formula)}</p>", *body])

    def _estimates(self) -> str:
        """Three lines for every coefficient."""
        names = list(dict.fromkeys(name for name, _ in self.table))
        index, cells = [], []
        for row in self.table.index:
            found = [self.table.loc[row, name] for name in names]
            index += [row, "", ""]
            cells.append([_shown(one["Estimate"], "{}") for one in found])
            cells.append([_shown(one["Std. Error"], "({})") for one in found])
            cells.append([_shown(one["Robust SE"], "[{}]") for one in found])
        shown = pd.DataFrame(cells, index=index, columns=names)
        return "\n".join(line.rstrip() for line in shown.to_string().splitlines())


def _shown(value: float, form: str) -> str:
    return form.format(f"{value:.4g}") if np.isfinite(value) else ""
