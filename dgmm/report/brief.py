"""A fit in a few lines, as R prints one: estimates, no tests."""

from __future__ import annotations

import pandas as pd

from dgmm.inference.criteria import df
from dgmm.inference.variance_parameters import (
    family_parameters,
    part_coefficients,
    var_corr,
)
from dgmm.record import Fitted
from dgmm.report.header import kind_of, method_of
from dgmm.report.layout import WIDTH, number, wrap
from dgmm.report.random_part import random_lines, sizes

__all__ = ["brief"]


def brief(fit: Fitted) -> str:
    """Model, log-likelihood, standard deviations, coefficients."""
    done, family = fit.estimate, fit.estimate.model.family
    restricted = done.method == "reml"
    lines = [
        f"{kind_of(fit)} {method_of(fit)}",
        f" Family: {family.name} ({family.link.name})",
        wrap(f"Formula: {fit.formula}", "         "),
        f"{'Restricted log-likelihood' if restricted else 'Log-likelihood'}: "
        f"{done.log_likelihood:.4f} (df={df(fit):.4g})",
    ]
    table = var_corr(fit)
    if len(table):
        lines += ["Random effects:", *random_lines(table, variances=False)]
    neural = [one.label for one in done.model.latents if one.neural]
    lines += [f" {label}: neural random effects" for label in neural]
    lines.append(wrap(sizes(fit), "   "))
    lines += _named("Fixed effects:", fit.fixef())
    for name, table in part_coefficients(fit).items():
        lines += _named(f"{name}:", table["Estimate"])
    own = family_parameters(fit)
    if len(own):
        lines += _named("Family parameters:", own["estimate"])
    lines += [f" {one.label}: a network" for one in done.model.networks]
    if fit.messages:
        noun = "note" if len(fit.messages) == 1 else "notes"
        lines.append(f"{len(fit.messages)} {noun}: summary(fit) has them")
    return "\n".join(lines)


def _named(title: str, values: pd.Series) -> list[str]:
    """Values below their names, as many in a line as there is room for."""
    if not len(values):
        return [f"{title} none"]
    texts = [number(float(value)) for value in values]
    width = max(max(map(len, texts)), *(len(str(name)) for name in values.index)) + 2
    each = max(1, WIDTH // width)
    lines = [title]
    for first in range(0, len(texts), each):
        chosen = slice(first, first + each)
        for row in (map(str, values.index[chosen]), texts[chosen]):
            lines.append("".join(cell.rjust(width) for cell in row))
    return lines
