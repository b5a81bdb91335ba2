"""Completed outcomes of a fit, and the mean profile under its model of dropout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from dgmm.estimate import Estimate
from dgmm.missing import imputations
from dgmm.record import Fitted, parameter_information

__all__ = ["impute", "pattern_profile"]


def impute(fit: Fitted, m: int = 20, *, seed: int, data: Any = None) -> list[pd.DataFrame]:
    """Complete the missing outcomes m times, in the user's row order.

        theta ~ N(theta-hat, V),   b | y_observed, theta,   y_missing | b, theta

    After se="bootstrap" theta is one of the resamples.

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        m: number of completed data sets.
        seed: of the draws.
        data: the frame of the fit; every result is a copy of it with a complete outcome.
            Without it the results have what a fit keeps: subject, time, outcome and
            ``imputed``.

    Parameters without a standard error (se=None, network weights, variances at their boundary)
    stay at their estimates. A fit with missing="pattern" imputes under its restriction.

    Raises:
        ValueError: several grouping factors, an outcome that is computed from columns, a frame
            that is not the one of the fit.

    Example:
        >>> import dgmm
        >>> sleep = dgmm.datasets.load("sleepstudy")
        >>> sleep.loc[[3, 8], "Reaction"] = None
        >>> fit = dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", sleep)
        >>> completed = fit.impute(m=3, seed=1, data=sleep)
        >>> len(completed), int(completed[0]["Reaction"].isna().sum())
        (3, 0)

    References:
        Rubin (1987), Multiple Imputation for Nonresponse in Surveys.
    """
    _check_number(m, 1)
    return imputations.frames(
        fit.estimate,
        fit.memory.spec,
        data,
        (fit.memory.labels, fit.memory.rows),
        lambda done: _completed(fit, done, m, seed),
    )


def pattern_profile(
    fit: Fitted, m: int = 20, *, seed: int, delta: float | None = None, level: float = 0.95
) -> pd.DataFrame:
    """Mean outcome of all subjects at every planned visit under a pattern-mixture model.

        E y_t = sum_d pi_d E(y_t | d),   d the last visit seen,

    by Rubin's rules over m completed data sets, whose spread between subjects holds that of
    the pi_d. For fits with missing="pattern".

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        m: number of completed data sets.
        seed: of the draws.
        delta: shift of the linear predictor after dropout, by default that of the fit.
        level: probability that an interval covers.

    Returns:
        A row per visit: its mean time, the share of outcomes seen, estimate, std_error, df,
        fmi (fraction of missing information), lower, upper.

    References:
        Little (1993), J. American Statistical Association 88, 125-134; Thijs et al. (2002),
        Biostatistics 3, 245-265.
    """
    if fit.estimate.patterns is None:
        raise ValueError("pattern_profile() is for fits with missing='pattern'")
    _check_number(m, 2)
    return imputations.profile(fit.estimate, _completed(fit, fit.estimate, m, seed, delta), level)


def _completed(
    fit: Fitted, done: Estimate, m: int, seed: int, delta: float | None = None
) -> Iterator[Tensor]:
    draws, known = fit.call.control.hessian_draws, fit.memory.departures
    if known.message:
        raise ValueError(f"there is nothing to impute by: {known.message}; leave these rows out")
    return imputations.outcomes(done, parameter_information(fit), m, seed, draws, delta)


def _check_number(m: int, least: int) -> None:
    if not isinstance(m, int | np.integer) or m < least:
        raise ValueError(f"m is a number of completed data sets, at least {least}, not {m!r}")
