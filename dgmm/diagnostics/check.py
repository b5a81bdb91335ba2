"""check(): one page about a fit."""

from __future__ import annotations

import html
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from dgmm.diagnostics.evidence import Evidence
from dgmm.diagnostics.finding import LOOK, POOR, Check, Finding
from dgmm.diagnostics.of_estimate import ESTIMATE
from dgmm.diagnostics.of_residuals import RESIDUALS, SUBJECTS
from dgmm.record import Fitted, check_rows
from dgmm.report.layout import columns, wrap
from dgmm.runtime.result_table import format_p

__all__ = ["CHECKS", "Checked", "check", "judged"]

CHECKS: tuple[Check, ...] = (*ESTIMATE, *RESIDUALS, *SUBJECTS)
"""The page, in this order."""

LEVEL = 0.05
"""Of all tests together, by Holm's adjustment."""

WORDS = {
    POOR: "The fit is not usable before something is done:",
    LOOK: "The fit is usable with care:",
    "ok": "Nothing speaks against the fit.",
}


@dataclass(frozen=True)
class Checked:
    """The findings about a fit; ``print`` it. ``table`` has a row per check."""

    title: str
    findings: tuple[Finding, ...]
    how: str

    @property
    def verdict(self) -> str:
        """The worst of all: "ok", "look" or "poor"."""
        found = {one.verdict for one in self.findings}
        return next((word for word in (POOR, LOOK) if word in found), "ok")

    @property
    def usable(self) -> bool:
        """No check says that the fit is not usable."""
        return self.verdict != POOR

    @property
    def table(self) -> pd.DataFrame:
        """A row per check: verdict, statistic, df, p.value, said, meaning, advice."""
        rows = [
            (one.verdict, one.statistic, one.df, one.p, one.said, one.meaning, one.advice)
            for one in self.findings
        ]
        names = ["verdict", "statistic", "df", "p.value", "said", "meaning", "advice"]
        index = pd.Index([one.check for one in self.findings], name="check")
        return pd.DataFrame(rows, columns=names, index=index)

    def __str__(self) -> str:
        lines = [wrap(self.title, "   "), ""]
        cells = [
            [one.check, one.verdict, "" if np.isnan(one.p) else _p(one.p)] for one in self.findings
        ]
        for one, line in zip(self.findings, columns(cells, left=(0, 1, 2)), strict=True):
            lines.append(line)
            lines.append(wrap(f"    {one.said}", "    "))
        lines += ["", wrap(self.how, ""), "", WORDS[self.verdict]]
        for one in self._to_see:
            lines.append(wrap(f"* {one.check}: {_explained(one)}", "  "))
        return "\n".join(lines)

    __repr__ = __str__

    @property
    def _to_see(self) -> list[Finding]:
        return [one for one in self.findings if one.verdict != "ok"]

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{html.escape(one.check)}</th><td>{one.verdict}</td>"
            f"<td>{'' if np.isnan(one.p) else format_p(one.p)}</td>"
            f"<td>{html.escape(one.said)}</td></tr>"
            for one in self.findings
        )
        said = "".join(
            f"<li>{html.escape(one.check)}: {html.escape(_explained(one))}</li>"
            for one in self._to_see
        )
        head = "<tr><th>check</th><th>verdict</th><th>p value</th><th>found</th></tr>"
        return (
            f"<div><strong>{html.escape(self.title)}</strong>\n<table>{head}{rows}</table>\n"
            f"<p>{html.escape(self.how)}</p><p>{WORDS[self.verdict]}</p>\n<ul>{said}</ul></div>"
        )

    def to_html(self) -> str:
        """The page by itself, as the text of a file."""
        title = html.escape(self.title)
        return (
            f'<!DOCTYPE html>\n<html><head><meta charset="utf-8"><title>{title}</title></head>\n'
            f"<body>{self._repr_html_()}</body></html>\n"
        )


def _p(value: float) -> str:
    shown = format_p(value)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def _explained(one: Finding) -> str:
    """What a finding means and what to try."""
    said = one.said if np.isnan(one.p) else _p(one.p)
    meaning = f". {one.meaning[0].upper()}{one.meaning[1:]}" if one.meaning else ""
    return f"{said}{meaning}" + (f". Try: {one.advice}" if one.advice else "")


def check(fit: Fitted, *, seed: int | None = None) -> Checked:
    """Look at all that can be wrong with a fit, on one page.

        T = sum_i (H_i - B s_i) ~ N(0, V)

    Convergence, boundary, collapse and the likelihood itself; residuals given the random effects
    and over the population; normality of the random effects; influential subjects. Every test of
    residuals allows for the estimation of all parameters: H_i is what a subject adds to a
    statistic, s_i its score, and the moments come from subjects simulated from the model. A test
    is marked where its p value, adjusted by Holm's method for all tests of the page, is below 0.05.

    Args:
        fit: a fit of :func:`dgmm.mixed_model`; of several outcomes, one of them, ``fit["y"]``.
        seed: of the draws; by default that of the fit.

    Returns:
        A :class:`Checked`: ``print`` it, read its ``table``, ``verdict`` and ``usable``; notebooks
        show it as HTML, ``to_html()`` is a page.

    Example:
        >>> import dgmm
        >>> sleep = dgmm.datasets.load("sleepstudy")
        >>> fit = dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", sleep)
        >>> dgmm.check(fit).usable
        True

    References:
        :mod:`dgmm.diagnostics.testing`, :mod:`dgmm.diagnostics.draws`.
    """
    check_rows(fit, "check()")
    evidence = Evidence(fit, fit.call.seed if seed is None else seed)
    found = [one for make in CHECKS if (one := make(evidence)) is not None]
    panel = fit.estimate.observed
    title = (
        f"Checks of {fit.formula}, {fit.estimate.model.family.name}: {panel.n_rows} outcomes of "
        f"{panel.n} {fit.memory.groups[0] if fit.memory.groups else 'rows'}"
    )
    how = (
        "Tests allow for the estimation of all parameters; their p values are single ones, the "
        "verdict is about all of them together (Holm, 0.05)."
        if evidence.by_subject
        else "Tests are made at one draw of theta and the random effects given the data: another "
        "seed gives other p values. The verdict is about all of them together (Holm, 0.05)."
    )
    return Checked(title, tuple(judged(found)), how)


def judged(found: list[Finding]) -> list[Finding]:
    """Findings with the verdicts of tests: adjusted for their number."""
    at = [j for j, one in enumerate(found) if np.isfinite(one.p)]
    if at:
        from statsmodels.stats.multitest import multipletests  # a fit need not wait for it

        adjusted = multipletests([found[j].p for j in at], method="holm")[1]
        for j, p in zip(at, adjusted, strict=True):
            found[j] = replace(found[j], verdict=LOOK if p < LEVEL else "ok")
    return found
