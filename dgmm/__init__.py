"""Deep generalized mixed models for longitudinal data.

>>> import dgmm
>>> fit = dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", dgmm.datasets.load("sleepstudy"))
>>> summary = dgmm.summary(fit)
"""

from dgmm import datasets
from dgmm.api import lm_list, load, mixed_model
from dgmm.comparison import compare
from dgmm.estimate import Control
from dgmm.families import Family
from dgmm.fit import Fit
from dgmm.formula import FormulaError
from dgmm.generics import (
    aic,
    anova,
    bic,
    bootstrap,
    coef,
    confint,
    deviance,
    df_residual,
    drop1,
    family_parameters,
    fitted,
    fixef,
    icc,
    impute,
    influence,
    is_singular,
    loglik,
    n_groups,
    nobs,
    part_coefficients,
    pattern_profile,
    predict,
    r2,
    ranef,
    ranova,
    refit,
    residuals,
    save,
    sigma,
    simulate,
    std_errors,
    summary,
    update,
    var_corr,
    vcov,
)
from dgmm.pooling import pool

__version__ = "0.1.0"

__all__ = [
    "Control",
    "Family",
    "Fit",
    "FormulaError",
    "aic",
    "anova",
    "bic",
    "bootstrap",
    "coef",
    "compare",
    "confint",
    "datasets",
    "deviance",
    "df_residual",
    "drop1",
    "family_parameters",
    "fitted",
    "fixef",
    "icc",
    "impute",
    "influence",
    "is_singular",
    "lm_list",
    "load",
    "loglik",
    "mixed_model",
    "n_groups",
    "nobs",
    "part_coefficients",
    "pattern_profile",
    "pool",
    "predict",
    "r2",
    "ranef",
    "ranova",
    "refit",
    "residuals",
    "save",
    "sigma",
    "simulate",
    "std_errors",
    "summary",
    "update",
    "var_corr",
    "vcov",
]
