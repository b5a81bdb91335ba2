"""Linear coefficients with their covariance, standard errors and Wald table."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dgmm.inference import reported
from dgmm.inference.contrasts import coefficient_table
from dgmm.inference.satterthwaite import Satterthwaite, satterthwaite
from dgmm.inference.wald import wald_table
from dgmm.information import Information, information
from dgmm.record import Fitted

__all__ = ["coefficients", "moments_of", "std_errors", "vcov"]


def vcov(fit: Fitted, kind: str = "default") -> pd.DataFrame:
    """Covariance matrix of the linear coefficients.

    kind: "default" is the form named in the summary (what se= asked for; "gls" after REML;
    missing values after se=None); "hessian" the inverse observed information; "gls" lme4's
    (sum X'V^-1 X)^-1, for Gaussian linear models; "sandwich" robust to what the model says
    about the dependence within subjects (many subjects needed; not after REML).
    """
    if kind not in ("default", "hessian", "gls", "sandwich"):
        known = "'default', 'hessian', 'gls' or 'sandwich'"
        raise ValueError(f"kind is {known}, not {kind!r}")
    info = fit.information
    if kind == "default" and info is None:
        kind = "gls" if fit.estimate.method == "reml" else "none"
    if kind == "hessian" and info is None:
        raise ValueError("this fit has no Hessian (REML, or se=None); use kind='gls'")
    if kind == "sandwich":
        info, kind = _robust(fit), "default"
    names = list(fit.estimate.model.names)
    matrix = reported.beta_vcov(fit.estimate, info, kind)
    return pd.DataFrame(matrix, index=names, columns=names)


def _robust(fit: Fitted) -> Information:
    if fit.estimate.method == "reml":
        raise ValueError("kind='sandwich' is for maximum likelihood; refit by method='ml'")
    draws = fit.call.control.hessian_draws
    return information(fit.estimate, "sandwich", fit.call.seed, draws)


def std_errors(fit: Fitted, kind: str = "default") -> pd.Series:
    """Standard errors of the linear coefficients; see :meth:`vcov` for ``kind``."""
    V = vcov(fit, kind)
    with np.errstate(invalid="ignore"):
        return pd.Series(np.sqrt(np.diag(V)), index=V.index, name="Std. Error")


def coefficients(fit: Fitted, df: str | None = None) -> pd.DataFrame:
    """The Wald table of the linear coefficients.

    df: None for z tests, "satterthwaite" for t tests with the GLS standard errors (Gaussian
        linear models), as lmerTest.
    """
    moments = moments_of(fit, df)
    if moments is None:
        return wald_table(fit.fixef(), std_errors(fit))
    error = std_errors(fit, kind="gls")
    return coefficient_table(fit.fixef(), error, moments, np.eye(len(error)))


def moments_of(fit: Fitted, df: str | None) -> Satterthwaite | None:
    """The moments behind t and F tests; None for z and chi-squared tests."""
    if df not in (None, "satterthwaite"):
        raise ValueError(f"df is None (z tests) or 'satterthwaite', not {df!r}")
    return None if df is None else satterthwaite(fit.estimate)
