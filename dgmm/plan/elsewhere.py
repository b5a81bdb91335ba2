"""Arguments of other packages, and what to write for them here."""

from __future__ import annotations

__all__ = ["INSTEAD"]

INSTEAD = {
    # lme4, nlme, glmmTMB, GLMMadaptive
    "REML": "method='reml' or method='ml'",
    "nAGQ": "likelihood='quadrature' and control={'points': 9}, or likelihood='laplace'",
    "random": "a random part in the formula, as in (1 | id)",
    "fixed": "one formula, as in 'y ~ x + (1 | id)'",
    "ziformula": "zi='~ x'",
    "zi_fixed": "zi='~ x'",
    "zi_random": "zi='~ x + (1 | id)'",
    "dispformula": "dispersion='~ x'",
    "subset": "the rows as data, data[data.x > 0]",
    "na.action": "missing_covariates='drop' or 'error'",
    "na_action": "missing_covariates='drop' or 'error'",
    "correlation": "a path in the formula, as in (ou(time) | id)",
    "contrasts": "C(g, contr.sum) in the formula",
    "start": "nothing: starting values are found",
    "re.form": "type='subject', 'mean_subject' or 'marginal'",
    "re_form": "type='subject', 'mean_subject' or 'marginal'",
    "allow.new.levels": "new_groups='population'",
    "se.fit": "interval='confidence'",
    "se_fit": "interval='confidence'",
    "se": "interval='confidence'",
    "parm": "nothing: every parameter is listed",
    # statsmodels
    "groups": "a random part in the formula, as in (1 | id)",
    "re_formula": "a random part in the formula, as in (1 + x | id)",
    "vc_formula": "random parts in the formula, as in (1 | a) + (1 | b)",
    "exog": "newdata=",
}
