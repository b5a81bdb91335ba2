"""Rubin's rules: one table from the estimates of m completed data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from dgmm.runtime.gate import gate
from dgmm.runtime.probability import check_level
from dgmm.runtime.result_table import ResultTable

__all__ = ["pool"]

COLUMNS = ["estimate", "within", "between", "std_error", "df", "fmi", "lower", "upper"]


@gate
def pool(
    estimates: Sequence[Any],
    std_errors: Sequence[Any] | None = None,
    *,
    df_complete: float = np.inf,
    level: float = 0.95,
) -> pd.DataFrame:
    """Combine the estimates of m completed data sets by Rubin's rules.

        Q = mean of the estimates,   U = mean squared standard error,   B = variance between them,
        T = U + (1 + 1/m) B,   fraction of missing information = {(1 + 1/m) B / T} corrected for df

    Args:
        estimates: m fits, whose linear coefficients are pooled; or m vectors (Series, dicts,
            arrays) or m numbers.
        std_errors: their standard errors in the same form; not with fits, which have their own.
        df_complete: residual degrees of freedom that the complete data would have; the degrees of
            freedom are those of Barnard and Rubin.
        level: probability that the interval covers.

    Returns:
        A row per parameter: estimate, within (U), between (B), std_error (root of T), df, fmi, and
        the t interval lower, upper.

    Raises:
        ValueError: fewer than two data sets, or vectors that do not belong together.

    Example:
        >>> import dgmm
        >>> table = dgmm.pool([1.0, 1.2, 0.9], [0.3, 0.3, 0.3])
        >>> round(float(table.loc[0, "std_error"]), 3)
        0.348

    References:
        Rubin (1987), Multiple Imputation for Nonresponse in Surveys; Barnard and Rubin (1999),
        Biometrika 86, 948-955.
    """
    check_level(level)
    if std_errors is None:
        estimates, std_errors = _of_fits(estimates)
    Q, names = _table(estimates, "estimates")
    se, other = _table(std_errors, "std_errors")
    if Q.shape != se.shape or names != other:
        raise ValueError(
            "estimates and std_errors need the same parameters in the same order: "
            f"{len(Q)} x {names} and {len(se)} x {other}"
        )
    m = len(Q)
    if m < 2:
        raise ValueError("pool() needs at least two completed data sets, the spread is unknown")
    within, between = np.square(se).mean(0), Q.var(0, ddof=1)
    # the same number m times has a variance of rounding errors
    between = np.where(np.ptp(Q, axis=0) <= 1e-12 * np.abs(Q).max(0), 0.0, between)
    extra = (1 + 1 / m) * between
    total = within + extra
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(total > 0, extra / total, 0.0)
        df = _degrees(share, m, df_complete)
        growth = np.where(share < 1, share / (1 - share), np.inf)  # (1 + 1/m) B / U
        fmi = np.where(np.isfinite(df), (growth + 2 / (df + 3)) / (1 + growth), share)
        fmi = np.where(share < 1, np.where(share > 0, fmi, 0.0), 1.0)
    half = special.stdtrit(np.minimum(df, 1e10), 0.5 + level / 2) * np.sqrt(total)
    mean = Q.mean(0)
    columns = (mean, within, between, np.sqrt(total), df, fmi, mean - half, mean + half)
    return ResultTable(dict(zip(COLUMNS, columns, strict=True)), index=names)


def _degrees(share: np.ndarray, m: int, df_complete: float) -> np.ndarray:
    """Barnard and Rubin's degrees of freedom; without missing information those of the data."""
    classical = np.where(share > 0, (m - 1) / np.square(share), np.inf)
    if not np.isfinite(df_complete):
        return classical
    observed = (df_complete + 1) / (df_complete + 3) * df_complete * (1 - share)
    return 1 / (1 / classical + 1 / observed)


def _of_fits(fits: Any) -> tuple[list[Any], list[Any]]:
    """Linear coefficients and their standard errors."""
    if not isinstance(fits, Sequence) or not all(hasattr(one, "std_errors") for one in fits):
        raise ValueError(
            "pool() takes a list of fits, or estimates and std_errors: one number or one vector "
            "for each completed data set"
        )
    return [one.fixef() for one in fits], [one.std_errors() for one in fits]


def _table(values: Sequence[Any], what: str) -> tuple[np.ndarray, list[Any]]:
    """(m, p) and the names of the parameters, 0, 1, ... without any."""
    rows = [pd.Series(v) if isinstance(v, pd.Series | Mapping) else v for v in values]
    named = [list(row.index) for row in rows if isinstance(row, pd.Series)]
    if any(names != named[0] for names in named) or len(named) not in (0, len(rows)):
        raise ValueError(f"{what}: every data set needs the same parameters in the same order")
    try:
        table = np.array([np.atleast_1d(np.asarray(row, dtype=float)) for row in rows])
    except ValueError as error:
        raise ValueError(f"{what}: vectors of different lengths or not numbers") from error
    if table.ndim != 2:
        raise ValueError(f"{what} is one number or one vector for each data set")
    return table, named[0] if named else list(range(table.shape[1]))
