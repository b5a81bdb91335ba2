"""The fixed part of a report, with the parameters of the family, zi= and dispersion=."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dgmm.inference.fixed_effects import SMALL, fewest_groups
from dgmm.inference.satterthwaite import Satterthwaite
from dgmm.inference.wald import stars
from dgmm.record import Fitted
from dgmm.report.layout import columns, decimals, number, wrap
from dgmm.report.tables import Tables
from dgmm.runtime.result_table import Cells, format_p

__all__ = [
    "AT_AVERAGE",
    "family_lines",
    "family_part",
    "fixed_lines",
    "fixed_part",
    "modelled_parts",
]


AT_AVERAGE = "Each fixed dnn() has mean zero over the sample: (Intercept) is at its average"


def fixed_part(fit: Fitted, tables: Tables) -> str:
    """Linear coefficients, and the form of their standard errors."""
    table = tables.fixed_cells
    lines = ["Fixed effects: none"]
    if len(table):
        lines = ["Fixed effects:", *fixed_lines(table), "---"]
        lines.append("Signif. codes:  0 '***' 0.001 '**' 0.01 '*' 0.05 '.' 0.1 ' ' 1")
    if tables.moments is not None:
        form = tables.moments.form
    elif fit.information is not None:
        form = fit.information.form
    elif fit.estimate.likelihood.bound:
        form = "none, a bound has no information; resample subjects and fit again for them"
    elif fit.estimate.method != "reml":
        form = "not asked for (se=None)"
    else:
        form = Satterthwaite.form
    lines.append(wrap(f"Standard errors: {form}", "   "))
    if len(table):
        lines.append(wrap(tests(fit, tables), "   "))
    if fit.estimate.model.networks:
        lines.append(AT_AVERAGE)
    return "\n".join(lines)


def tests(fit: Fitted, tables: Tables) -> str:
    """Which distribution the p values are from, and why."""
    groups = fewest_groups(fit)
    if tables.moments is not None:
        return f"Tests: t, {tables.moments.words}'s degrees of freedom; REML, {groups} groups"
    done = fit.estimate
    restricted = done.likelihood.normal and done.model.linear and not done.model.serial
    if restricted and done.method == "ml" and groups < SMALL:
        return (
            f"Tests: z, as if variances were known; p values are too small with {groups} groups: "
            "method='reml' has t tests"
        )
    return f"Tests: z, the normal distribution of large samples; {groups} groups"


def fixed_lines(table: Cells | pd.DataFrame, prefix: str = "") -> list[str]:
    """Coefficients with z (or df and t) and p as R prints them."""
    with_df = "df" in table
    ratio, tail = ("t value", "Pr(>|t|)") if with_df else ("z value", "Pr(>|z|)")
    rows = [["", "Estimate", "Std. Error", *(["df"] * with_df), ratio, tail, ""]]
    spread = np.asarray(table["Std. Error"])
    estimates, errors = decimals(np.asarray(table["Estimate"]), spread), decimals(spread, spread)
    degrees = [[f"{df:.2f}"] for df in table["df"]] if with_df else [[] for _ in estimates]
    cells = (table.index, estimates, errors, degrees, table[ratio], table[tail])
    for name, estimate, error, df, value, p in zip(*cells, strict=True):
        z = f"{value:.2f}" if np.isfinite(value) else "NA"
        rows.append([f"{prefix}{name}", estimate, error, *df, z, format_p(p), stars(p)])
    return columns(rows, left=(0, len(rows[0]) - 1))


def family_part(fit: Fitted, tables: Tables) -> str | None:
    """Further parameters of the family with their intervals."""
    if {"log_sigma"}.issuperset(fit.estimate.model.family.extra):  # that is a variance component
        return None
    return family_lines(tables.family_parameters)


def family_lines(table: pd.DataFrame) -> str | None:
    """Parameters of a family as a report prints them, None where there are none."""
    if not len(table):
        return None
    rows = [["", "Estimate", "Std. Error", "2.5 %", "97.5 %"]]
    for name, row in table.iterrows():
        rows.append([str(name), *(number(float(value)) for value in row)])
    return "\n".join(["Family parameters:", *columns(rows, left=(0,))])


def modelled_parts(fit: Fitted, tables: Tables) -> str | None:
    """Coefficients of zi= and dispersion=."""
    if not fit.estimate.model.parts:
        return None
    return "\n\n".join(_part(fit, *pair) for pair in tables.parts.items()) or None


TITLES = {"zi": "Zero part", "oi": "Upper end", "dispersion": "Dispersion"}


def _part(fit: Fitted, name: str, table: pd.DataFrame) -> str:
    model = fit.estimate.model
    parameter = next(model.family.extra[one.position] for one in model.parts if one.name == name)
    scale, word = parameter.split("_", 1)
    return "\n".join([f"{TITLES[name]} ({scale} {word}):", *fixed_lines(table)])
