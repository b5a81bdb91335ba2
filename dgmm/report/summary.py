"""The printed report of a fit: reads like R's, says in words what is not right."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from dgmm.record import Fitted
from dgmm.report.course_part import course_part
from dgmm.report.deep_part import deep_fixed, deep_notes, deep_random, deep_title, deep_words
from dgmm.report.fixed_part import family_part, fixed_part, modelled_parts
from dgmm.report.given_part import given_part
from dgmm.report.header import statistics, title
from dgmm.report.layout import wrap
from dgmm.report.missing_part import pattern_part, saem_part
from dgmm.report.network_part import encoder_part, network_part
from dgmm.report.posterior_part import (
    chains_part,
    posterior_family,
    posterior_fixed,
    posterior_given,
    posterior_random,
    posterior_title,
    prior_part,
)
from dgmm.report.random_part import random_part
from dgmm.report.tables import Tables, tables_of

__all__ = ["Summary", "sections_of", "summary"]

Section = Callable[[Fitted, Tables], str | None]
"""Some lines of a report; None where the fit has nothing of the kind."""


@dataclass(frozen=True)
class Summary:
    """The report: ``str(summary)`` prints it, the tables are data frames."""

    title: str
    sections: tuple[str, ...]
    tables: Tables
    notes: tuple[str, ...]

    @property
    def coefficients(self) -> pd.DataFrame:
        """Linear coefficients with their tests."""
        return self.tables.coefficients

    @property
    def random_effects(self) -> pd.DataFrame:
        """Variance components."""
        return self.tables.random_effects

    @property
    def family_parameters(self) -> pd.DataFrame:
        """Further parameters of the family."""
        return self.tables.family_parameters

    @property
    def fit_statistics(self) -> pd.Series:
        """Criteria, log-likelihood, degrees of freedom."""
        return self.tables.statistics

    @property
    def networks(self) -> pd.DataFrame:
        """A row per network."""
        return self.tables.networks

    def __str__(self) -> str:
        return "\n\n".join([self.title, *self.sections])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        tables = [self.fit_statistics.to_frame().T, self.random_effects, self.coefficients]
        if len(self.family_parameters):
            tables.append(self.family_parameters)
        if len(self.networks):
            tables.append(self.networks)
        body = "\n".join(table.to_html(float_format=lambda x: f"{x:.5g}") for table in tables)
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        text = html.escape(str(self))
        return (
            f"<div><strong>{html.escape(self.title.splitlines()[0])}</strong>\n{body}\n"
            f"<ul>{notes}</ul><details><summary>as text</summary><pre>{text}</pre></details></div>"
        )


def notes(fit: Fitted, tables: Tables) -> str | None:
    """What the fit says about itself."""
    of_chains = fit.estimate.messages if fit.sampled else ()  # at the top
    said = [message for message in fit.messages if message not in of_chains]
    if not said:
        return None
    return "Notes:\n" + "\n".join(wrap(f"* {message}", "  ") for message in said)


VERBOSE: tuple[Section, ...] = (
    title,
    statistics,
    random_part,
    fixed_part,
    given_part,
    family_part,
    modelled_parts,
    network_part,
    encoder_part,
    course_part,
    saem_part,
    pattern_part,
    notes,
)
"""Everything there is to say about a maximum, in this order."""

SEARCH: tuple[Section, ...] = (network_part, encoder_part, course_part)
"""How a maximum was found."""

LINEAR = tuple(section for section in VERBOSE if section not in SEARCH)
"""The report of a model without networks."""

DEEP: tuple[Section, ...] = (
    deep_title,
    deep_random,
    deep_fixed,
    given_part,
    family_part,
    modelled_parts,
    deep_words,
    pattern_part,
    deep_notes,
)
"""The report of a model with networks, in words of mixed models."""

OF_DRAWS: tuple[Section, ...] = (
    posterior_title,
    chains_part,
    posterior_random,
    posterior_fixed,
    posterior_given,
    posterior_family,
    prior_part,
    notes,
)
"""The report of a sampled posterior."""


def summary(fit: Fitted, df: str | None = "auto", *, verbose: bool = False) -> Summary:
    """The report; ``print`` it, or read its tables.

    df: of the tests of the coefficients, see :meth:`coefficients`.
    verbose: also how a maximum was found: the numerical likelihood, sizes and penalties of
        networks, starts, encoder, Monte Carlo errors, and what the notes advise.
    """
    tables = tables_of(fit, df)
    written = [section(fit, tables) for section in sections_of(fit, verbose)]
    head, *sections = [text for text in written if text is not None]
    return Summary(
        head,
        tuple(sections),
        tables,
        fit.messages,
    )


def sections_of(fit: Fitted, verbose: bool) -> tuple[Section, ...]:
    """The sections of the report of a fit, in their order."""
    if fit.sampled:
        return OF_DRAWS
    if verbose:
        return VERBOSE
    return LINEAR if fit.estimate.model.linear else DEEP
