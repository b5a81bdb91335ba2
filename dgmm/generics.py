"""summary(fit), fixef(fit), ...: every generic of R, a method of a fit as a function."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from dgmm.fit import Fit
from dgmm.multivariate.fit import MultivariateFit

__all__ = [
    "aic",
    "anova",
    "as_arviz",
    "augment",
    "bic",
    "bootstrap",
    "calibration",
    "check",
    "coef",
    "confint",
    "contrast",
    "deviance",
    "df_residual",
    "drop1",
    "effects",
    "emmeans",
    "family_parameters",
    "fitted",
    "fixef",
    "glance",
    "icc",
    "impute",
    "influence",
    "is_singular",
    "log_score",
    "loglik",
    "loo",
    "marginal_coefs",
    "n_groups",
    "nobs",
    "panel_test",
    "part_coefficients",
    "pattern_profile",
    "posterior_draws",
    "posterior_table",
    "pp_check",
    "predict",
    "prior_draws",
    "prior_predictive",
    "r2",
    "random_profile",
    "ranef",
    "ranova",
    "refit",
    "residuals",
    "save",
    "scoring_rules",
    "sigma",
    "simulate",
    "slopes",
    "states",
    "std_errors",
    "summary",
    "tidy",
    "update",
    "var_corr",
    "vcov",
]


Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def _generic(
    method: Callable[Concatenate[Fit, Arguments], Result],
) -> Callable[Concatenate[Fit, Arguments], Result]:
    """The method as a function that refuses whatever is no fit."""

    @wraps(method)
    def generic(fit: Fit, *args: Arguments.args, **options: Arguments.kwargs) -> Result:
        name = method.__name__
        if isinstance(fit, MultivariateFit):
            if not hasattr(fit, name):
                raise TypeError(f"{name}() is for one outcome: {name}(fit[{fit.names[0]!r}])")
            found: Result = getattr(fit, name)(*args, **options)
            return found
        if not isinstance(fit, Fit):
            raise TypeError(f"{name}() needs a fit from mixed_model(), not {type(fit).__name__}")
        return method(fit, *args, **options)

    return generic


aic = _generic(Fit.aic)
anova = _generic(Fit.anova)
as_arviz = _generic(Fit.as_arviz)
augment = _generic(Fit.augment)
bic = _generic(Fit.bic)
bootstrap = _generic(Fit.bootstrap)
calibration = _generic(Fit.calibration)
check = _generic(Fit.check)
coef = _generic(Fit.coef)
confint = _generic(Fit.confint)
contrast = _generic(Fit.contrast)
deviance = _generic(Fit.deviance)
df_residual = _generic(Fit.df_residual)
drop1 = _generic(Fit.drop1)
effects = _generic(Fit.effects)
emmeans = _generic(Fit.emmeans)
family_parameters = _generic(Fit.family_parameters)
fitted = _generic(Fit.fitted)
fixef = _generic(Fit.fixef)
glance = _generic(Fit.glance)
icc = _generic(Fit.icc)
impute = _generic(Fit.impute)
influence = _generic(Fit.influence)
is_singular = _generic(Fit.is_singular)
log_score = _generic(Fit.log_score)
loglik = _generic(Fit.loglik)
loo = _generic(Fit.loo)
marginal_coefs = _generic(Fit.marginal_coefs)
n_groups = _generic(Fit.n_groups)
nobs = _generic(Fit.nobs)
panel_test = _generic(Fit.panel_test)
part_coefficients = _generic(Fit.part_coefficients)
pattern_profile = _generic(Fit.pattern_profile)
posterior_draws = _generic(Fit.posterior_draws)
posterior_table = _generic(Fit.posterior_table)
pp_check = _generic(Fit.pp_check)
predict = _generic(Fit.predict)
prior_draws = _generic(Fit.prior_draws)
prior_predictive = _generic(Fit.prior_predictive)
r2 = _generic(Fit.r2)
random_profile = _generic(Fit.random_profile)
ranef = _generic(Fit.ranef)
states = _generic(Fit.states)
ranova = _generic(Fit.ranova)
refit = _generic(Fit.refit)
residuals = _generic(Fit.residuals)
save = _generic(Fit.save)
scoring_rules = _generic(Fit.scoring_rules)
sigma = _generic(Fit.sigma)
simulate = _generic(Fit.simulate)
slopes = _generic(Fit.slopes)
std_errors = _generic(Fit.std_errors)
summary = _generic(Fit.summary)
tidy = _generic(Fit.tidy)
update = _generic(Fit.update)
var_corr = _generic(Fit.var_corr)
vcov = _generic(Fit.vcov)
