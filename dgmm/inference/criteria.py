"""The log-likelihood of a fit and the criteria made of it: AIC, BIC, degrees of freedom."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from dgmm.information import reported_packing
from dgmm.record import Fitted, check_maximum

__all__ = [
    "LogLik",
    "aic",
    "bic",
    "deviance",
    "df",
    "df_residual",
    "groups_seen",
    "loglik",
    "n_groups",
    "nobs",
]


COMPARE = "compare models by loo()"
"""What stands for a criterion where there is no maximum."""


class LogLik(NamedTuple):
    """Marginal log-likelihood: ``float(loglik)`` is its value."""

    value: float
    mc_error: float  # Monte Carlo standard error; quadrature: change between the last two rules
    df: float
    nobs: int
    likelihood: str  # word
    sampled: bool = False
    bound: bool = False  # a lower bound of it

    def __float__(self) -> float:
        return float(self.value)

    def __str__(self) -> str:
        error = f", Monte Carlo s.e. {self.mc_error:.2g}" if self.sampled else ""
        name = "lower bound of 'log Lik.'" if self.bound else "'log Lik.'"
        return f"{name} {self.value:.4f} (df={self.df:g}{error})"


def loglik(fit: Fitted) -> LogLik:
    """Marginal log-likelihood (restricted for REML) with its Monte Carlo error.

    Of method="gibbs" its value at the posterior mean, which is not a maximum; of recursions, vrnn()
    and dmm(), an importance-weighted lower bound.
    """
    done, of = fit.estimate, fit.estimate.likelihood
    return LogLik(
        done.log_likelihood, done.mc_error, df(fit), nobs(fit), of.word, of.sampled, of.bound
    )


def df(fit: Fitted) -> float:
    """Parameters: all, or effective degrees of freedom with networks (NaN if se=None)."""
    if not fit.estimate.model.linear:
        return float("nan") if fit.information is None else fit.information.effective["total"]
    model = fit.estimate.model
    return float(reported_packing(model).size - model.equalities)


def deviance(fit: Fitted) -> float:
    """-2 log-likelihood."""
    return -2 * fit.estimate.log_likelihood


def aic(fit: Fitted) -> float:
    """-2 l + 2 df; with networks conditional on the ridge, df effective."""
    check_maximum(fit, "aic()", COMPARE)
    return deviance(fit) + 2 * df(fit)


def bic(fit: Fitted, n: str = "observations") -> float:
    """-2 l + log(n) df with n the number of "observations" (as lme4) or of "subjects".

    Both count what was seen: outcomes, and subjects with one.
    """
    check_maximum(fit, "bic()", COMPARE)
    if n not in ("observations", "subjects"):
        raise ValueError(f"n is 'observations' or 'subjects', not {n!r}")
    size = nobs(fit) if n == "observations" else n_groups(fit)
    if isinstance(size, dict):
        raise ValueError(
            "with several grouping factors there is no one number of subjects; use "
            "bic('observations')"
        )
    return deviance(fit) + float(np.log(size)) * df(fit)


def nobs(fit: Fitted) -> int:
    """Number of observed outcomes; seen from one of several outcomes those of all.

    The log-likelihood is that of all.
    """
    return sum(panel.n_seen for panel in fit.estimate.panel.panels)


def n_groups(fit: Fitted) -> int | dict[str, int]:
    """Number of subjects with an outcome; with several grouping factors the levels of each."""
    sizes = {name: seen for name, (seen, _) in groups_seen(fit).items()}
    return sizes if len(sizes) > 1 else next(iter(sizes.values()))


def groups_seen(fit: Fitted) -> dict[str, tuple[int, int]]:
    """By grouping factor the levels with an outcome, and those whose outcomes are all missing."""
    panel = fit.estimate.panel
    if panel.beside:
        seen = int((torch.stack([one.outcomes for one in panel.panels]).sum(0) > 0).sum())
        return {fit.memory.groups[0]: (seen, panel.n - seen)}
    factors, found = panel.factors(len(fit.memory.groups)), {}
    for i, factor in enumerate(factors):
        if panel.several:
            outcomes = torch.bincount(panel.rows.level[i][panel.observed])
        else:
            outcomes = panel.outcomes
        seen = int((outcomes > 0).sum())
        found[factor.name or fit.memory.groups[0]] = seen, len(factor.labels) - seen
    return found


def df_residual(fit: Fitted) -> float:
    """Observed outcomes minus parameters."""
    return nobs(fit) - df(fit)
