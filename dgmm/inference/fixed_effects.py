"""Linear coefficients with their covariance, standard errors and Wald table."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dgmm.inference import reported
from dgmm.inference.contrasts import coefficient_table
from dgmm.inference.criteria import groups_seen
from dgmm.inference.kenward_roger import kenward_roger
from dgmm.inference.posterior import posterior_table
from dgmm.inference.satterthwaite import satterthwaite
from dgmm.inference.small_samples import SmallSamples
from dgmm.inference.wald import wald_cells
from dgmm.information import Information, information
from dgmm.record import Fitted, check_maximum
from dgmm.runtime.result_table import Cells

__all__ = [
    "SMALL",
    "coefficient_cells",
    "coefficients",
    "fewest_groups",
    "moments_of",
    "std_errors",
    "vcov",
]

SMALL = 100
"""Groups below which tests after REML are t and F tests unless others are asked for."""

WORDS = (None, "auto", "satterthwaite", "kenward-roger")


def vcov(fit: Fitted, kind: str = "default") -> pd.DataFrame:
    """Covariance matrix of the linear coefficients.

    kind: "default" is the form named in the summary (what se= asked for; "gls" after REML;
    missing values after se=None); "hessian" the inverse observed information; "gls" lme4's
    (sum X'V^-1 X)^-1, for Gaussian linear models; "sandwich" robust to what the model says
    about the dependence within subjects (many subjects needed; not after REML).
    """
    names = list(fit.estimate.model.names)
    return pd.DataFrame(_vcov(fit, kind), index=names, columns=names)


def _vcov(fit: Fitted, kind: str) -> np.ndarray:
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
    return reported.beta_vcov(fit.estimate, info, kind)


def _robust(fit: Fitted) -> Information:
    check_maximum(fit, "kind='sandwich'", "use kind='default'")
    if fit.estimate.method == "reml":
        raise ValueError("kind='sandwich' is for maximum likelihood; refit by method='ml'")
    draws = fit.call.control.hessian_draws
    return information(fit.estimate, "sandwich", fit.call.seed, draws)


def std_errors(fit: Fitted, kind: str = "default") -> pd.Series:
    """Standard errors of the linear coefficients; see :meth:`vcov` for ``kind``."""
    names = list(fit.estimate.model.names)
    return pd.Series(_std_errors(fit, kind), index=names, name="Std. Error")


def _std_errors(fit: Fitted, kind: str = "default") -> np.ndarray:
    with np.errstate(invalid="ignore"):
        errors: np.ndarray = np.sqrt(np.diag(_vcov(fit, kind)))
    return errors


def coefficients(fit: Fitted, df: str | None = "auto") -> pd.DataFrame:
    """The Wald table of the linear coefficients; of draws from a posterior their summary.

    df: None for z tests; of Gaussian linear models "satterthwaite" for t tests with the GLS
        standard errors, as lmerTest, and "kenward-roger" (REML) for those of pbkrtest, whose
        standard errors allow for the estimated variances. "auto" is "satterthwaite" after REML
        with fewer than 100 groups, else None.
    """
    moments = moments_of(fit, df)
    if fit.sampled:
        return posterior_table(fit).iloc[: len(fit.estimate.model.names)]
    if moments is None:
        return coefficient_cells(fit).frame()
    error = pd.Series(np.sqrt(np.diag(moments.covariance)), index=fit.fixef().index)
    return coefficient_table(fit.fixef(), error, moments, np.eye(len(error)))


def coefficient_cells(fit: Fitted) -> Cells:
    """The columns of the Wald table of a maximum, with z tests."""
    model = fit.estimate.model
    beta = model.beta(fit.estimate.theta).detach().numpy()
    return wald_cells(list(model.names), beta, _std_errors(fit))


def moments_of(fit: Fitted, df: str | None) -> SmallSamples | None:
    """The moments behind t and F tests; None for z and chi-squared tests."""
    if df not in WORDS:
        known = "'auto', 'satterthwaite', 'kenward-roger' or None (z tests)"
        raise ValueError(f"df is {known}, not {df!r}")
    if df not in ("auto", None):
        check_maximum(fit, f"df={df!r}", "draws need no degrees of freedom")
    if df == "kenward-roger":
        return kenward_roger(fit.estimate)
    if df == "auto" and not _small(fit):
        return None
    return None if df is None else satterthwaite(fit.estimate)


def _small(fit: Fitted) -> bool:
    """Whether tests are t tests when nothing else is asked for."""
    done = fit.estimate
    if done.method != "reml" or fewest_groups(fit) >= SMALL:
        return False
    return done.likelihood.variance_moments(done.theta) is not None


def fewest_groups(fit: Fitted) -> int:
    """Subjects with an outcome, or levels of the factor that has fewest."""
    return min(seen for seen, _ in groups_seen(fit).values())
