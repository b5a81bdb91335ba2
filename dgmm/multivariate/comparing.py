"""The joint model beside the separate ones, and beside other joint models."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import chdtrc

from dgmm.multivariate.record import FittedOutcomes
from dgmm.multivariate.tables import df, nobs

__all__ = ["anova"]


class _Row(NamedTuple):
    label: str
    df: float
    log_likelihood: float


def anova(fit: FittedOutcomes, *others: FittedOutcomes) -> pd.DataFrame:
    """Compare nested models of the same outcomes, by default the separate ones with the joint one.

        2 (l_1 - l_0) ~ chi2(df_1 - df_0)

    The separate models are the joint one with every correlation between outcomes zero, which is no
    boundary: the null distribution is chi-squared. Of models that differ in variances or loadings
    the p-value is conservative.

    Args:
        fit: a fit of ``mixed_model(mv(...))``.
        others: further joint fits of the same outcomes.

    Returns:
        A row per model by rising df: npar, AIC, BIC, logLik, Chisq, Df, Pr(>Chisq).

    Raises:
        ValueError: other outcomes, REML beside other coefficients, or outcomes that have no model
            of their own.
    """
    for other in others:
        if other.names != fit.names or nobs(other) != nobs(fit):
            raise ValueError("anova() compares fits of the same outcomes of the same rows")
        if other.estimate.method != fit.estimate.method:
            raise ValueError("anova() compares fits of one method, ML or REML")
    if any(not one.estimate.model.linear for one in (fit, *others)):
        raise ValueError(
            "anova() compares classical models by their likelihood ratio, and networks have a "
            "penalty: compare log_score() of subjects that no fit has seen; the summary has that "
            "of folds against the classical model within"
        )
    rows = [_Row(str(one.several), df(one), one.estimate.log_likelihood) for one in (fit, *others)]
    if not others:
        if fit.several.shared:
            raise ValueError(
                "with shared= the separate models are no special case of the joint one; compare "
                "with the joint fit without shared="
            )
        values = [one.estimate.log_likelihood for one in fit.separate]
        if any(math.isnan(value) for value in values):
            raise ValueError(
                "an outcome that takes the random part of another has no model of its own here; "
                "compare with another joint fit"
            )
        parameters = sum(float(one.df()) for one in fit.separate)
        rows.append(_Row("separate models", parameters, sum(values)))
    rows.sort(key=lambda one: one.df)
    size, table = nobs(fit), []
    before: _Row | None = None
    for one in rows:
        line = {
            "npar": one.df,
            "AIC": -2 * one.log_likelihood + 2 * one.df,
            "BIC": -2 * one.log_likelihood + math.log(size) * one.df,
            "logLik": one.log_likelihood,
            "Chisq": np.nan,
            "Df": np.nan,
            "Pr(>Chisq)": np.nan,
        }
        if before is not None and one.df > before.df:
            ratio = max(0.0, 2 * (one.log_likelihood - before.log_likelihood))
            line |= {"Chisq": ratio, "Df": one.df - before.df}
            line["Pr(>Chisq)"] = float(chdtrc(one.df - before.df, ratio))
        table.append(line)
        before = one
    return pd.DataFrame(table, index=[one.label for one in rows])
