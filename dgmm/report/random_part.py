"""The random part of a report."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dgmm.inference.criteria import groups_seen, nobs
from dgmm.inference.reported import time_profile
from dgmm.parameters import part
from dgmm.record import Fitted
from dgmm.report.layout import columns, number, wrap
from dgmm.report.tables import Tables
from dgmm.runtime.result_table import Cells

__all__ = ["random_lines", "random_part", "sizes"]


def random_part(fit: Fitted, tables: Tables) -> str:
    """Variance components, profiles of neural random effects, numbers of rows and groups."""
    done, table, lines = fit.estimate, tables.random_cells, ["Random effects:"]
    if len(table):
        lines += random_lines(table)
    for i, latent in enumerate(done.model.latents):
        if latent.recursive:  # its remark stands with the networks
            continue
        # of a structure that enters the outcome of the report
        if latent.neural and done.model.targets[i] >= 0:
            lines += _profile_lines(fit, i)
        elif remark := latent.remark(part(done.theta, f"latent{i + 1}.")):
            lines.append(wrap(remark, "   "))
    lines.append(wrap(sizes(fit), "   "))
    return "\n".join(lines)


def sizes(fit: Fitted) -> str:
    """Numbers of outcomes and groups: those seen, those planned, rows with a gap."""
    parts = [f"Number of obs: {nobs(fit)}"]
    planned = sum(panel.n_rows for panel in fit.estimate.panel.panels)
    if planned > nobs(fit):
        missing = planned - nobs(fit)
        parts.append(f"{missing} planned with a missing outcome")
    if fit.memory.left_out.rows:
        parts.append(f"{fit.memory.left_out.rows} rows left out")
    groups = "; ".join(
        f"{name}, {seen}" + (f" ({unseen} more without an outcome)" if unseen else "")
        for name, (seen, unseen) in groups_seen(fit).items()
    )
    return f"{', '.join(parts)}; groups: {groups}"


def random_lines(table: Cells | pd.DataFrame, *, variances: bool = True) -> list[str]:
    """The variance component table as lme4 prints it."""
    rows = [["Groups", "Name", *(["Variance"] * variances), "Std.Dev.", "Corr"]]
    known = ["group", "kind", "name1", "name2", "sdcor", "vcov"]
    records = [*zip(*(list(table[name]) for name in known), strict=True)]
    last = None
    for at, (group, kind, name, _, sd, variance) in enumerate(records):
        if kind != "sd":
            continue
        values = [v for g, _, _, below, v, _ in records if (g, below) == (group, name)]
        correlations = " ".join("  NaN" if np.isnan(v) else f"{v:5.2f}" for v in values)
        others = []
        for g, word, _, _, value, _ in records[at + 1 :]:  # the other parameters of the part
            if word == "sd" or g != group:
                break
            if word != "cor":
                others.append(f"{word} {number(value)}")
        correlations = ", ".join(others) or correlations
        shown = group if group != last else ""
        last = group
        squared = [number(variance)] * variances
        rows.append([shown, name, *squared, number(sd), correlations])
    return [" " + line for line in columns(rows, left=(0, 1, len(rows[0]) - 1))]


def _profile_lines(fit: Fitted, i: int) -> list[str]:
    latent, profile = fit.estimate.model.latents[i], time_profile(fit.estimate, i)
    times = [f"{t:.3g}" for t in profile.times]
    rows = [[fit.memory.spec.time_name or "row", "Std.Dev. of mu2(b, t)", "Corr"]]
    for j, (time, sd) in enumerate(zip(times, profile.sd, strict=True)):
        below = (profile.correlation[j, m] for m in range(j))
        correlations = " ".join("   NA" if np.isnan(value) else f"{value:5.2f}" for value in below)
        rows.append([time, number(sd), correlations])
    head = (
        f" {fit.memory.groups[i]}: neural random effects of dimension {latent.dim}, b ~ N(0, I); "
        "implied at the first, middle and last time:"
    )
    return [wrap(head, " "), *[" " + line for line in columns(rows, left=(0, 2))]]
