"""drop1: every term of the fixed part that can go, taken out in turn.

Columns of X are taken out as they are coded, so no data frame is needed. A term goes only when no
higher interaction contains it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dgmm.estimate import Estimate, Request
from dgmm.estimate.again import refit_without
from dgmm.inference.mixtures import Mixture
from dgmm.inference.tables import Anova

__all__ = ["drop_terms", "droppable"]


def droppable(terms: Sequence[str]) -> list[str]:
    """Terms (as `a:b`) that no other term contains, the intercept left out."""
    listed = [term for term in dict.fromkeys(terms) if term != "(Intercept)"]
    parts = {term: set(term.split(":")) for term in listed}
    return [one for one in listed if not any(parts[one] < parts[two] for two in listed)]


def drop_terms(done: Estimate, request: Request, terms: Sequence[str], df: float) -> Anova:
    """Likelihood-ratio test and AIC of every single deletion.

    Raises:
        ValueError: for REML fits and networks.
    """
    if not done.model.linear:
        raise ValueError(
            "drop1() is for models without dnn(): the likelihood ratio of penalised networks has "
            "no known distribution. Compare with update() and the held-out score."
        )
    if done.method == "reml":
        raise ValueError(
            "drop1() compares models with different fixed parts, which restricted likelihoods "
            "cannot: refit with method='ml' (fit.update(method='ml'))"
        )
    rows: dict[str, dict[str, float]] = {
        "<none>": {"npar": np.nan, "AIC": -2 * done.log_likelihood + 2 * df}
    }
    notes = []
    for term in droppable(terms):
        columns = [j for j, owner in enumerate(terms) if owner == term]
        smaller = refit_without(done, request, columns)
        difference = done.log_likelihood - smaller.log_likelihood
        error = float(np.hypot(done.mc_error, smaller.mc_error))
        known = not (error > 1e-3 and abs(difference) < 4 * error)
        p = Mixture((len(columns),)).p_value(2 * difference) if known else np.nan
        rows[term] = {
            "npar": len(columns),
            "AIC": -2 * smaller.log_likelihood + 2 * (df - len(columns)),
            "LRT": max(2 * difference, 0.0),
            "Pr(>Chisq)": p,
        }
        if not known:
            notes.append(
                f"`{term}`: the log-likelihoods differ by {difference:.3g}, less than 4 times "
                f"their numerical error ({error:.2g}): no p-value"
            )
    table = pd.DataFrame.from_dict(rows, orient="index")
    table = table.reindex(columns=["npar", "AIC", "LRT", "Pr(>Chisq)"])
    return Anova("Single term deletions (likelihood-ratio tests)", table, tuple(notes))
