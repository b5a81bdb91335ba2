"""summary(fit), fixef(fit), ...: every generic of R as a function that calls the method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dgmm.fit import Fit

__all__ = [
    "aic",
    "anova",
    "bic",
    "bootstrap",
    "coef",
    "confint",
    "contrast",
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
    "log_score",
    "loglik",
    "n_groups",
    "nobs",
    "part_coefficients",
    "pattern_profile",
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
    "slopes",
    "std_errors",
    "summary",
    "update",
    "var_corr",
    "vcov",
]


def _generic(name: str, sentence: str) -> Callable[..., Any]:
    def generic(fit: Any, *args: Any, **options: Any) -> Any:
        if not isinstance(fit, Fit):
            raise TypeError(f"{name}() needs a fit from mixed_model(), not {type(fit).__name__}")
        return getattr(fit, name)(*args, **options)

    generic.__name__ = generic.__qualname__ = name
    generic.__doc__ = f"{sentence} Calls ``fit.{name}(...)``, which documents the arguments."
    return generic


aic = _generic("aic", "Akaike's information criterion.")
anova = _generic("anova", "Tests of terms, of linear hypotheses, of nested models.")
bic = _generic("bic", "Schwarz's criterion, with the n that is stated.")
bootstrap = _generic("bootstrap", "Estimates from simulated and refitted outcomes.")
coef = _generic("coef", "Coefficients of every subject: fixed plus random effects.")
confint = _generic("confint", "Confidence intervals: Wald, profile likelihood or bootstrap.")
contrast = _generic("contrast", "Average difference of mu1 between two settings of covariates.")
deviance = _generic("deviance", "Minus twice the log-likelihood.")
df_residual = _generic("df_residual", "Residual degrees of freedom.")
drop1 = _generic("drop1", "Single term deletions of the fixed part.")
effects = _generic("effects", "The fixed part over a grid of a covariate, with bands.")
family_parameters = _generic("family_parameters", "Further parameters of the family.")
fitted = _generic("fitted", "Expected outcome of every row given the subject's data.")
fixef = _generic("fixef", "Linear fixed effects.")
icc = _generic("icc", "Intraclass correlation.")
impute = _generic("impute", "Missing outcomes completed several times.")
influence = _generic("influence", "Cook's distance and dfbetas of every subject.")
is_singular = _generic("is_singular", "True when a variance is estimated at its boundary.")
log_score = _generic("log_score", "Marginal log-likelihood of every subject of new data.")
loglik = _generic("loglik", "Marginal log-likelihood with its Monte Carlo error.")
n_groups = _generic("n_groups", "Number of subjects.")
nobs = _generic("nobs", "Number of observed outcomes.")
pattern_profile = _generic(
    "pattern_profile", "Mean outcome per visit under a pattern-mixture model of dropout."
)
predict = _generic("predict", "Predictions for known and new subjects.")
r2 = _generic("r2", "Marginal and conditional R2.")
random_profile = _generic("random_profile", "SD, correlation and ICC of the random part over time.")
ranef = _generic("ranef", "Random effects E(b | y) of every subject.")
ranova = _generic("ranova", "Single deletions of random effects.")
part_coefficients = _generic(
    "part_coefficients", "Wald tables of the coefficients of zi= and dispersion=."
)
refit = _generic("refit", "The same model for another outcome of the same rows.")
residuals = _generic("residuals", "Observed minus fitted outcomes.")
save = _generic("save", "Write the fit to a file that loads without executing code.")
sigma = _generic("sigma", "Residual standard deviation.")
simulate = _generic("simulate", "Draws of the outcome from the model.")
slopes = _generic("slopes", "Average slopes of covariates, linear or inside a network.")
std_errors = _generic("std_errors", "Standard errors of the fixed effects.")
summary = _generic("summary", "The report of a fit.")
update = _generic("update", "Refit with some arguments changed.")
var_corr = _generic("var_corr", "Variances and correlations of the random effects.")
vcov = _generic("vcov", "Covariance matrix of the fixed effects.")
