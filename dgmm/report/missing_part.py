"""The missing outcomes of a report: SAEM, and a model per pattern of dropout."""

from __future__ import annotations

import numpy as np
import torch

from dgmm.record import Fitted
from dgmm.report.layout import columns, number, wrap
from dgmm.report.tables import Tables

__all__ = ["pattern_part", "saem_part"]

STANDS_IN = {
    "acmv": "as all who were seen at that visit (missing at random)",
    "ccmv": "as the completers",
    "ncmv": "as those who left next",
}


def saem_part(fit: Fitted, tables: Tables) -> str | None:
    """The stochastic approximation: acceptance, error, coefficients on the way."""
    path = fit.estimate.saem
    if path is None:
        return None
    se = np.asarray(tables.fixed_cells["Std. Error"])
    total, burn = len(path.trace), path.burn
    at = (1, burn, (burn + total) // 2, total)
    shown = torch.cat([path.trace[[j - 1 for j in at]], path.trace[burn:].mean(0)[None]])
    rows = [["iteration", *map(str, at), "average"]]
    for name, values in zip(path.names, shown.T.tolist(), strict=True):
        rows.append([name, *map(number, values)])
    jumps, walks = path.acceptance
    lines = [
        f"SAEM: {total} iterations, the last {total - burn} averaged; {path.chains} chains per "
        "subject",
        f"Acceptance: proposals of the encoder {jumps:.2f}, random walk {walks:.2f}",
        *(" " + line for line in columns(rows, left=(0,))),
    ]
    worst = float(np.nanmax(path.mc_error.numpy() / se)) if np.isfinite(se).any() else np.nan
    if np.isfinite(worst):
        lines.append(f"Monte Carlo error of the averages: at most {worst:.2g} standard errors")
    return "\n".join(lines)


def pattern_part(fit: Fitted, tables: Tables) -> str | None:
    """Sizes, shares and parameters per pattern of dropout, and the restriction."""
    patterns, n = fit.estimate.patterns, len(fit.estimate.observed.ids)
    if patterns is None:
        return None
    rows, before = [["last visit seen", "subjects", "share", "parameters", "logLik"]], 0
    for longest, head in zip(patterns.longest, patterns.heads, strict=True):
        visits = str(longest + 1) if longest == before else f"{before + 1}-{longest + 1}"
        size = len(head.subjects)
        logs = f"{head.log_likelihood:.1f}"
        rows.append([visits, str(size), f"{size / n:.3f}", str(patterns.parameters), logs])
        before = longest + 1
    lines = ["Dropout, a head per pattern (above: the fit of all subjects):"]
    lines += [" " + line for line in columns(rows, left=(0,))]
    total = patterns.parameters * len(patterns.heads)
    lines.append(f"Parameters of all heads: {total}, and {len(patterns.heads) - 1} shares")
    lines.append(
        wrap(f"After dropout: {patterns.restriction}, {STANDS_IN[patterns.restriction]}", "   ")
    )
    if patterns.delta:
        lines.append(f"Linear predictor after dropout moved by delta = {patterns.delta:g}")
    return "\n".join(lines)
