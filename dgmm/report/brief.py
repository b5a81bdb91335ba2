"""A fit in a few lines, as R prints one: estimates, no tests."""

from __future__ import annotations

import pandas as pd

from dgmm.inference.criteria import df
from dgmm.inference.variance_parameters import (
    family_parameters,
    part_coefficients,
    var_corr,
)
from dgmm.record import Fitted, chains_of
from dgmm.report.header import kind_of, method_of
from dgmm.report.layout import WIDTH, number, wrap
from dgmm.report.random_part import random_lines, sizes

__all__ = ["brief"]


def brief(fit: Fitted) -> str:
    """Model, log-likelihood, standard deviations, coefficients."""
    done, family = fit.estimate, fit.estimate.model.family
    lines = [
        f"{kind_of(fit)} {method_of(fit)}",
        f" Family: {family.name} ({family.link.name})",
        wrap(f"Formula: {fit.formula}", "         "),
        _height(fit),
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


def _height(fit: Fitted) -> str:
    """The log-likelihood at the maximum, or the draws in place of one."""
    done = fit.estimate
    if fit.sampled:
        chains = chains_of(fit, "the report")
        return f"Posterior means over {chains.chains} chains of {chains.draws} draws"
    word = "Restricted log-likelihood" if done.method == "reml" else "Log-likelihood"
    return f"{word}: {done.log_likelihood:.4f} (df={df(fit):.4g})"


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
