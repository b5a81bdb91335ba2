"""The short report of a fit with networks: what is said of the model, not of its search."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dgmm.inference.reported import Profile, time_profile
from dgmm.parameters import part
from dgmm.record import Fitted
from dgmm.report.fixed_part import AT_AVERAGE, fixed_lines
from dgmm.report.header import model_lines, statistics
from dgmm.report.layout import WIDTH, wrap
from dgmm.report.network_part import against_nested, remarks, used_directions
from dgmm.report.notes import of_search
from dgmm.report.random_part import random_lines, sizes
from dgmm.report.tables import Tables

__all__ = ["deep_fixed", "deep_notes", "deep_random", "deep_title", "deep_words", "network_words"]

STOPS = (": ", "; ", ". ")
"""Where a note may end in a short report."""


def deep_title(fit: Fitted, tables: Tables) -> str:
    """The model in words, its log-likelihood and criteria in a line."""
    if fit.estimate.likelihood.bound:
        return "\n".join([*model_lines(fit), "", statistics(fit, tables)])
    told = tables.statistics
    counted = "not counted (se=None)" if np.isnan(told["df"]) else f"{told['df']:.4g}, effective"
    text = f"logLik {told['logLik']:.1f} (df {counted})"
    if not np.isnan(told["df"]):
        text += f", AIC {told['AIC']:.1f}, BIC {told['BIC']:.1f}"
    return "\n".join([*model_lines(fit), wrap(text, "   ")])


def deep_random(fit: Fitted, tables: Tables) -> str:
    """Standard deviations and correlations: of effects, and of curves at three times."""
    done, table, lines = fit.estimate, tables.random_effects, ["Random effects:"]
    curves = [
        _of_curve(fit.memory.groups[i], fit.memory.spec.time_name, time_profile(done, i))
        for i, latent in enumerate(done.model.latents)
        if latent.neural and not latent.recursive and done.model.targets[i] >= 0
    ]
    residual = table["group"] == "Residual"
    parts = [one for one in (table[~residual], *curves, table[residual]) if len(one)]
    if parts:
        lines += random_lines(pd.concat(parts), variances=False)
    for i, latent in enumerate(done.model.latents, 1):
        remark = "" if latent.neural else latent.remark(part(done.theta, f"latent{i}."))
        lines += [wrap(remark, "   ")] if remark else []
    return "\n".join([*lines, wrap(sizes(fit), "   ")])


def _of_curve(group: str, time: str | None, profile: Profile) -> pd.DataFrame:
    """What a network makes of b at three times, as rows of a table of variance components."""
    names = [f"curve, {time or 'row'} = {value:.3g}" for value in profile.times]
    rows: list[tuple[str, str, str, str | None, float, float]] = []
    for j, (name, sd) in enumerate(zip(names, profile.sd, strict=True)):
        rows.append((group, "sd", name, None, sd, sd**2))
        for i in range(j):
            rows.append((group, "cor", names[i], name, profile.correlation[i, j], np.nan))
    return pd.DataFrame(rows, columns=["group", "kind", "name1", "name2", "sdcor", "vcov"])


def deep_fixed(fit: Fitted, tables: Tables) -> str:
    """Linear coefficients; the form of their standard errors where it is another than asked for."""
    table = tables.coefficients
    if not len(table):
        return "Fixed effects: none"
    lines = ["Fixed effects:", *fixed_lines(table)]
    if fit.estimate.model.networks:
        lines.append(AT_AVERAGE)
    if fit.information is None:
        none = "a bound has no information" if fit.estimate.likelihood.bound else "se=None"
        lines.append(f"Standard errors: none, {none}")
    elif fit.call.se != "hessian":
        lines.append(wrap(f"Standard errors: {fit.information.form}", "   "))
    return "\n".join(lines)


def deep_words(fit: Fitted, tables: Tables) -> str | None:
    """Every network in a line, and what it gains; None of a model without one."""
    return None if fit.estimate.model.linear else network_words(fit, tables.networks)


def network_words(fit: Fitted, table: pd.DataFrame) -> str:
    """Effective parameters of every network, and the comparison with the model without them."""
    lines = []
    for row in table.itertuples(index=False):
        known = row.edf is not None and np.isfinite(row.edf)
        size = f"{row.edf:.1f} effective parameters" if known else f"{row.weights} weights"
        lines.append(wrap(f"Network {row.term}: {size}", "   "))
    lines += [*remarks(fit), *used_directions(fit.estimate), *against_nested(fit.estimate)]
    return "\n".join(lines)


def deep_notes(fit: Fitted, tables: Tables) -> str | None:
    """The notes about the model, each to its first stop; those about the search are counted."""
    if not fit.messages:
        return None
    aside = set(of_search(fit.estimate)) if fit.call.control.polish else set()
    said = [message for message in fit.messages if message not in aside]
    rest = len(fit.messages) - len(said)
    more = f"; {rest} more about the search" if rest else ""
    lines = [f"Notes (with advice by summary(fit, verbose=True){more}):"]
    return "\n".join([*lines, *(wrap(f"* {shortened(one)}", "  ") for one in said)])


def shortened(message: str, width: int = WIDTH - 2) -> str:
    """A message to the last of its stops that fits into a line, whole where none does."""
    ends = [at for stop in STOPS for at in _places(message, stop) if at <= width]
    return message if len(message) <= width or not ends else message[: max(ends)]


def _places(text: str, stop: str) -> list[int]:
    return [at for at in range(len(text)) if text.startswith(stop, at)]
