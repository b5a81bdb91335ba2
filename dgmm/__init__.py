"""Deep generalized mixed models for longitudinal data.

>>> import dgmm
>>> fit = dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", dgmm.datasets.load("sleepstudy"))
>>> summary = dgmm.summary(fit)
"""

from dgmm import datasets, studies
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
    contrast,
    deviance,
    df_residual,
    drop1,
    effects,
    family_parameters,
    fitted,
    fixef,
    icc,
    impute,
    influence,
    is_singular,
    log_score,
    loglik,
    n_groups,
    nobs,
    part_coefficients,
    pattern_profile,
    predict,
    r2,
    random_profile,
    ranef,
    ranova,
    refit,
    residuals,
    save,
    sigma,
    simulate,
    slopes,
    std_errors,
    summary,
    update,
    var_corr,
    vcov,
)
from dgmm.missing.pooling import pool
from dgmm.studies import simulate_study
from dgmm.tuning.cross_validation import Tuning, tune

__version__ = "0.1.0"

__all__ = [
    "Control",
    "Family",
    "Fit",
    "FormulaError",
    "Tuning",
    "aic",
    "anova",
    "bic",
    "bootstrap",
    "coef",
    "compare",
    "confint",
    "contrast",
    "datasets",
    "deviance",
    "df_residual",
    "drop1",
    "effects",
    "family_parameters",
    "fitted",
    "fixef",
    "icc",
    "impute",
    "influence",
    "is_singular",
    "lm_list",
    "load",
    "log_score",
    "loglik",
    "mixed_model",
    "n_groups",
    "nobs",
    "part_coefficients",
    "pattern_profile",
    "pool",
    "predict",
    "r2",
    "random_profile",
    "ranef",
    "ranova",
    "refit",
    "residuals",
    "save",
    "sigma",
    "simulate",
    "simulate_study",
    "slopes",
    "std_errors",
    "studies",
    "summary",
    "tune",
    "update",
    "var_corr",
    "vcov",
]
