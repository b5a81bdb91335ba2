"""The printed report of a joint fit: a section per outcome, one covariance of random effects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dgmm.inference import fixed_effects, variance_parameters
from dgmm.multivariate.record import FittedOutcomes
from dgmm.multivariate.tables import (
    aic,
    bic,
    coefficients,
    correlation_of,
    deviance,
    df,
    implied,
    n_groups,
    nobs,
    var_corr,
)
from dgmm.multivariate.views import view
from dgmm.report.course_part import course_lines
from dgmm.report.deep_part import network_words
from dgmm.report.fixed_part import family_lines, fixed_lines
from dgmm.report.header import arguments, bounds_of, error_lines, method_of
from dgmm.report.layout import columns, number, wrap
from dgmm.report.network_part import network_lines
from dgmm.report.tables import network_table

__all__ = ["Summary", "summary"]

MOST = 12
"""Random effects whose correlations are printed."""


@dataclass(frozen=True)
class Summary:
    """The report: ``str(summary)`` prints it, the tables are data frames."""

    text: str
    coefficients: pd.DataFrame
    random_effects: pd.DataFrame
    correlation: pd.DataFrame
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


def summary(fit: FittedOutcomes, *, verbose: bool = False) -> Summary:
    """The report; ``print`` it, or read its tables.

    verbose: of networks also their sizes and penalties, and how the maximum was found.
    """
    random = var_corr(fit)
    sections = [_title(fit), _statistics(fit), _random(fit, random)]
    if not fit.estimate.model.linear:
        first = view(fit, 0)
        of_networks = network_lines if verbose else network_words
        sections.append(of_networks(first, network_table(first)))
        if verbose and (course := course_lines(first)):
            sections.append(course)
    sections += [_outcome(fit, o) for o in range(len(fit.names))]
    form = "not asked for" if fit.information is None else fit.information.form
    if fit.estimate.likelihood.bound:
        form = "none, a bound has no information"
    sections.append(
        "Signif. codes:  0 '***' 0.001 '**' 0.01 '*' 0.05 '.' 0.1 ' ' 1\n"
        + wrap(f"Standard errors: {form}", "   ")
    )
    if fit.messages:
        notes = (wrap(f"* {message}", "  ") for message in fit.messages)
        sections.append("Notes:\n" + "\n".join(notes))
    return Summary(
        "\n\n".join(sections), coefficients(fit), random, correlation_of(random), fit.messages
    )


def _title(fit: FittedOutcomes) -> str:
    gaussian = all(one.family.conjugate for one in fit.estimate.model.outcomes)
    kind = "Linear mixed model" if gaussian else "Generalized linear mixed model"
    by = "restricted maximum likelihood (REML)"
    how = by if fit.estimate.method == "reml" else "maximum likelihood"
    if not fit.estimate.model.linear:
        kind = "Deep mixed model" if gaussian else "Deep generalized mixed model"
        how = f"penalised {how}"
    fitted = f"fitted by {how}"
    if fit.estimate.likelihood.bound:
        fitted = method_of(view(fit, 0))
    lines = [f"{kind} of {len(fit.names)} outcomes {fitted}"]
    for name, text, call, one, panel in zip(
        fit.names,
        fit.several.formulas,
        fit.calls,
        fit.estimate.model.outcomes,
        fit.estimate.panel.panels,
        strict=True,
    ):
        head = f" {name} ({one.family.name}, {one.family.link.name}): "
        lines.append(wrap(f"{head}{text}", "    "))
        lines += arguments(call, one.family, panel)
    if fit.several.shared:
        told = (f"{t} ({', '.join(given)})" if given else t for t, given in fit.several.shared)
        lines.append(wrap(f"Coefficients in common: {', '.join(told)}", "   "))
    lines.append(wrap(f"Marginal likelihood: {fit.estimate.likelihood.describe()}", "   "))
    return "\n".join(lines)


def _statistics(fit: FittedOutcomes) -> str:
    done = fit.estimate
    if done.course is not None:
        return bounds_of(view(fit, 0))
    name = "logLik" if done.method != "reml" else "REML logLik"
    values = {
        "AIC": aic(fit), "BIC": bic(fit), name: done.log_likelihood, "deviance": deviance(fit),
    }  # fmt: skip
    shown = [f"{value:.1f}" for value in values.values()]
    lines = columns([[*values, "df"], [*shown, f"{df(fit):.4g}"]])
    return "\n".join([*lines, *error_lines(done)])


def _random(fit: FittedOutcomes, table: pd.DataFrame) -> str:
    own = table[table["group"] != "Residual"]
    effects = own[own["kind"] == "sd"]["name1"].tolist()
    matrix = correlation_of(table)
    rows, lines = [["Name", "Variance", "Std.Dev.", "Corr"]], ["Random effects:"]
    for j, name in enumerate(effects):
        line = own[(own["kind"] == "sd") & (own["name1"] == name)].iloc[0]
        shown = range(j if len(effects) <= MOST else 0)
        below = " ".join(f"{matrix.iloc[j, i]:5.2f}" for i in shown)
        rows.append([name, number(line["vcov"]), number(line["sdcor"]), below])
    if effects:
        lines += [" " + one for one in columns(rows, left=(0, 3))]
    if len(effects) > MOST:
        lines.append("   correlations: fit.correlation()")
    other = own[~own["kind"].isin(["sd", "cor"])]
    for _, line in other.iterrows():
        lines.append(f" {line['kind']} of {line['name1']}: {number(line['sdcor'])}")
    neural = any(latent.neural for latent in fit.estimate.model.latents)
    if neural and not fit.estimate.model.recursive:
        lines += _implied(fit)
    between = table[(table["group"] == "Residual") & (table["kind"] == "cor")]
    for _, line in between.iterrows():
        text = f" correlation of the residuals of {line['name1']} and {line['name2']} on a row: "
        lines.append(text + number(line["sdcor"]))
    seen = ", ".join(
        f"{name} {int(panel.observed.sum())}"
        for name, panel in zip(fit.names, fit.estimate.panel.panels, strict=True)
    )
    group = fit.memories[0].groups[0]
    text = f"Number of obs: {nobs(fit)} ({seen}); groups: {group}, {n_groups(fit)}"
    return "\n".join([*lines, wrap(text, "   ")])


def _implied(fit: FittedOutcomes) -> list[str]:
    """What neural random effects make of every outcome, and how outcomes go together."""
    lines = [
        f" {latent.label}: neural random effects of dimension {latent.dim}, b ~ N(0, I)"
        for latent in fit.estimate.model.latents
        if latent.neural
    ]
    table = implied(fit)
    times = dict.fromkeys(one.spec.time_name for one in fit.memories if one.spec.time_name)
    rows = [["Outcome", "/".join(times) or "row", "Std.Dev. of mu2(b, t)", "Corr"]]
    for j, (name, line) in enumerate(table.iterrows()):
        below = line.iloc[2 : 2 + (j if len(table) <= MOST else 0)]
        shown = " ".join(f"{value:5.2f}" for value in below)
        time = "" if np.isnan(line.iloc[0]) else f"{line.iloc[0]:.3g}"
        rows.append([str(name), time, number(line.iloc[1]), shown])
    return [*lines, *(" " + one for one in columns(rows, left=(0, 3)))]


def _outcome(fit: FittedOutcomes, o: int) -> str:
    one = view(fit, o)
    table, lines = fixed_effects.coefficients(one), [f"Outcome {fit.names[o]}:"]
    lines += fixed_lines(table) if len(table) else ["no fixed effects"]
    family = fit.estimate.model.outcomes[o]
    at = family.one_number("log_sigma")
    if at is not None:
        sigma = float(fit.estimate.theta[f"{family.key}extra"][at].exp())
        lines.append(f"Residual standard deviation: {number(sigma)}")
    for name, columns_of in variance_parameters.part_coefficients(one).items():
        lines += [f"{name}:", *fixed_lines(columns_of)]
    if text := family_lines(variance_parameters.family_parameters(one)):
        lines.append(text)
    return "\n".join(lines)
