"""Deep generalized mixed models for longitudinal data.

>>> import dgmm
>>> fit = dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", dgmm.datasets.load("sleepstudy"))
>>> summary = dgmm.summary(fit)

A public name is imported when it is first asked for: data sets need no torch, a fit no matplotlib.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dgmm import datasets, families, plots, studies
    from dgmm.api import lm_list, load, mixed_model
    from dgmm.bayes import (
        half_normal,
        half_t,
        inv_gamma,
        inv_wishart,
        known,
        log_normal,
        normal,
        prior,
    )
    from dgmm.checking import check_family
    from dgmm.comparison import compare
    from dgmm.estimate import Control
    from dgmm.families import Family
    from dgmm.files import read
    from dgmm.fit import Fit
    from dgmm.formula import FormulaError, mv
    from dgmm.generics import (
        aic,
        anova,
        as_arviz,
        augment,
        bic,
        bootstrap,
        calibration,
        check,
        coef,
        confint,
        contrast,
        deviance,
        df_residual,
        drop1,
        effects,
        emmeans,
        family_parameters,
        fitted,
        fixef,
        glance,
        icc,
        impute,
        influence,
        is_singular,
        log_score,
        loglik,
        loo,
        marginal_coefs,
        n_groups,
        nobs,
        part_coefficients,
        pattern_profile,
        posterior_draws,
        posterior_table,
        pp_check,
        predict,
        prior_draws,
        prior_predictive,
        r2,
        random_profile,
        ranef,
        ranova,
        refit,
        residuals,
        save,
        scoring_rules,
        sigma,
        simulate,
        slopes,
        states,
        std_errors,
        summary,
        tidy,
        update,
        var_corr,
        vcov,
    )
    from dgmm.missing.pooling import pool
    from dgmm.multivariate.fit import MultivariateFit
    from dgmm.report.modelsummary import modelsummary
    from dgmm.studies import simulate_study
    from dgmm.tuning.cross_validation import Tuning, tune
    from dgmm.tuning.validation import Validated, cv

__version__ = "0.1.0"

__all__ = [
    "Control",
    "Family",
    "Fit",
    "FormulaError",
    "MultivariateFit",
    "Tuning",
    "Validated",
    "aic",
    "anova",
    "as_arviz",
    "augment",
    "bic",
    "bootstrap",
    "calibration",
    "check",
    "check_family",
    "coef",
    "compare",
    "confint",
    "contrast",
    "cv",
    "datasets",
    "deviance",
    "df_residual",
    "drop1",
    "effects",
    "emmeans",
    "families",
    "family_parameters",
    "fitted",
    "fixef",
    "glance",
    "half_normal",
    "half_t",
    "icc",
    "impute",
    "influence",
    "inv_gamma",
    "inv_wishart",
    "is_singular",
    "known",
    "lm_list",
    "load",
    "log_normal",
    "log_score",
    "loglik",
    "loo",
    "marginal_coefs",
    "mixed_model",
    "modelsummary",
    "mv",
    "n_groups",
    "nobs",
    "normal",
    "panel_test",
    "part_coefficients",
    "pattern_profile",
    "plots",
    "pool",
    "posterior_draws",
    "posterior_table",
    "pp_check",
    "predict",
    "prior",
    "prior_draws",
    "prior_predictive",
    "r2",
    "random_profile",
    "ranef",
    "ranova",
    "read",
    "refit",
    "residuals",
    "save",
    "scoring_rules",
    "sigma",
    "simulate",
    "simulate_study",
    "slopes",
    "states",
    "std_errors",
    "studies",
    "summary",
    "tidy",
    "tune",
    "update",
    "var_corr",
    "vcov",
]

# Where the public names live; every other one is a function of dgmm.generics.
MODULES = {"datasets", "families", "plots", "studies"}
HOMES = {
    "Control": "estimate",
    "Family": "families",
    "Fit": "fit",
    "MultivariateFit": "multivariate.fit",
    "FormulaError": "formula",
    "Tuning": "tuning.cross_validation",
    "Validated": "tuning.validation",
    "check_family": "checking",
    "compare": "comparison",
    "cv": "tuning.validation",
    "half_normal": "bayes",
    "half_t": "bayes",
    "inv_gamma": "bayes",
    "inv_wishart": "bayes",
    "known": "bayes",
    "lm_list": "api",
    "load": "api",
    "log_normal": "bayes",
    "mixed_model": "api",
    "modelsummary": "report.modelsummary",
    "mv": "formula",
    "normal": "bayes",
    "pool": "missing.pooling",
    "prior": "bayes",
    "read": "files",
    "simulate_study": "studies",
    "tune": "tuning.cross_validation",
}


def __dir__() -> list[str]:
    """The public names."""
    return list(__all__)


if not TYPE_CHECKING:  # to a type checker an unknown name stays an error

    def __getattr__(name: str) -> object:
        """The public name, from its module; from then on it is in the namespace."""
        if name not in __all__:
            raise AttributeError(f"module 'dgmm' has no attribute {name!r}")
        if name in MODULES:
            return import_module(f"dgmm.{name}")
        home = import_module(f"dgmm.{HOMES.get(name, 'generics')}")
        globals()[name] = getattr(home, name)
        return globals()[name]
