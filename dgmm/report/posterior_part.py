"""The report of a sampled posterior: convergence, means and quantiles, diagnostics, priors."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dgmm.inference.within_between import drawn_within_between
from dgmm.record import Fitted, chains_of
from dgmm.report.header import model_lines
from dgmm.report.layout import columns, number, wrap
from dgmm.report.random_part import sizes
from dgmm.report.tables import Tables

__all__ = [
    "chains_part",
    "posterior_family",
    "posterior_fixed",
    "posterior_given",
    "posterior_random",
    "posterior_title",
    "prior_part",
]


def posterior_title(fit: Fitted, tables: Tables) -> str:
    """The model in words, and above all else whether its draws can be used."""
    mixing = [wrap(f"NOTE: {message}", "      ") for message in fit.estimate.messages]
    return "\n".join([*mixing, *model_lines(fit)])


def chains_part(fit: Fitted, tables: Tables) -> str:
    """Chains and draws, the largest R-hat, the least effective sample sizes, acceptance."""
    chains, found = chains_of(fit, "the report"), tables.statistics
    lines = [
        wrap(
            f"{chains.chains} chains of {chains.draws} draws after {chains.warmup} sweeps of "
            f"warm-up: R-hat at most {found['R-hat']:.3f}, effective sample size at least "
            f"{found['ESS bulk']:.0f} (bulk) and {found['ESS tail']:.0f} (tails)",
            "   ",
        )
    ]
    if chains.acceptance:
        rates = [
            f"{name} {float(rate.min()):.2f}-{float(rate.max()):.2f}"
            for name, rate in chains.acceptance.items()
        ]
        lines.append(wrap(f"Acceptance: {', '.join(rates)}", "   "))
    lines.append(wrap(_centred(fit), "   "))
    return "\n".join(lines)


def _centred(fit: Fitted) -> str:
    """Which columns stand in the mean of the effects."""
    chains, model = chains_of(fit, "the report"), fit.estimate.model
    factors = fit.estimate.panel.factors(len(model.latents))
    named = [factor.name or fit.memory.groups[0] for factor in factors]
    inside = [
        f"{name} in {named[f]}"
        for name, f in zip(model.names, chains.inside, strict=True)
        if f >= 0
    ]
    outside = [name for name, f in zip(model.names, chains.inside, strict=True) if f < 0]
    parts = []
    if inside:
        parts.append(f"{', '.join(inside)}")
    if outside:
        parts.append(f"not {', '.join(outside)}")
    return f"Hierarchical centring: {'; '.join(parts) or 'nothing to centre'}"


def _lines(table: pd.DataFrame) -> list[str]:
    """Rows of a posterior table, means and quantiles with as many digits as their spread needs."""
    rows = [["", *table.columns]]
    for name, row in table.iterrows():
        cells = []
        for column, value in row.items():
            if column == "R-hat":
                cells.append(f"{value:.3f}" if np.isfinite(value) else "NA")
            elif str(column).startswith("ESS"):
                cells.append(f"{value:.0f}" if np.isfinite(value) else "NA")
            else:
                cells.append(number(float(value), 2 if column == "MCSE" else 4))
        rows.append([str(name), *cells])
    return columns(rows, left=(0,))


def posterior_random(fit: Fitted, tables: Tables) -> str:
    """Standard deviations and correlations, numbers of rows and groups."""
    names = tables.posterior.index
    own = [name for name in names if str(name).startswith(("sd_", "cor_")) or name == "sigma"]
    lines = ["Standard deviations and correlations:", *_lines(tables.posterior.loc[own])]
    return "\n".join([*lines, wrap(sizes(fit), "   ")])


def posterior_fixed(fit: Fitted, tables: Tables) -> str:
    """Linear coefficients."""
    if not len(tables.coefficients):
        return "Coefficients: none"
    return "\n".join(["Coefficients:", *_lines(tables.coefficients)])


def posterior_given(fit: Fitted, tables: Tables) -> str | None:
    """Effects within and between the subjects of cre()."""
    terms = [term for term in fit.memory.spec.parsed().latents if term.given is not None]
    table = drawn_within_between(fit) if terms else pd.DataFrame()
    if not len(table):
        return None
    groups = ", ".join(dict.fromkeys(term.group for term in terms))
    return "\n".join(
        [f"Effects within and between {groups}, and their difference:", *_lines(table)]
    )


def posterior_family(fit: Fitted, tables: Tables) -> str | None:
    """Further parameters of the family."""
    if not len(tables.family_parameters):
        return None
    own = tables.posterior.loc[list(tables.family_parameters.index)]
    return "\n".join(["Family parameters:", *_lines(own)])


def prior_part(fit: Fitted, tables: Tables) -> str:
    """The priors, with all their numbers."""
    lines = chains_of(fit, "the report").priors
    return "\n".join(["Priors:", *(wrap(f" {line}", "   ") for line in lines)])
