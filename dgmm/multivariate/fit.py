"""MultivariateFit: a model of several outcomes fitted to data, every function of it a method."""

from __future__ import annotations

from functools import partial
from typing import Any, final

from dgmm.fit import Fit
from dgmm.multivariate import comparing, report, rows, tables
from dgmm.multivariate.record import FittedOutcomes
from dgmm.multivariate.views import view
from dgmm.plan import INSTEAD
from dgmm.runtime.gate import gate_methods
from dgmm.storage import save

__all__ = ["MultivariateFit"]


@partial(gate_methods, instead=INSTEAD)
@final
class MultivariateFit(FittedOutcomes):
    """A fitted mixed model of several outcomes.

    ``fit["y"]`` is the fit with the outcome ``y`` in front, on which every method of
    :class:`dgmm.Fit` works: effects, contrasts, plots, with the standard errors of the joint model
    and predictions that use what was seen of all outcomes.
    """

    fixef = tables.fixef
    vcov = tables.vcov
    std_errors = tables.std_errors
    coefficients = tables.coefficients
    family_parameters = tables.family_parameters
    var_corr = tables.var_corr
    correlation = tables.correlation
    sigma = tables.sigma
    confint = tables.confint
    ranef = tables.ranef
    coef = tables.coef

    loglik = tables.loglik
    df = tables.df
    deviance = tables.deviance
    aic = tables.aic
    bic = tables.bic
    nobs = tables.nobs
    n_groups = tables.n_groups

    fitted = rows.fitted
    residuals = rows.residuals
    predict = rows.predict
    simulate = rows.simulate
    impute = rows.impute
    log_score = rows.log_score

    anova = comparing.anova
    summary = report.summary
    save = save

    @property
    def formula(self) -> str:
        """The formulas as they were written."""
        return str(self.several)

    def __getitem__(self, outcome: str) -> Fit:
        """The fit as one outcome sees it."""
        return view(self, self.position(outcome))

    def effects(self, outcome: str, *args: Any, **options: Any) -> Any:
        """The effect of covariates on one outcome; see :meth:`dgmm.Fit.effects`."""
        return self[outcome].effects(*args, **options)

    def slopes(self, outcome: str, *args: Any, **options: Any) -> Any:
        """Average slopes of one outcome; see :meth:`dgmm.Fit.slopes`."""
        return self[outcome].slopes(*args, **options)

    def contrast(self, outcome: str, *args: Any, **options: Any) -> Any:
        """Contrasts of one outcome; see :meth:`dgmm.Fit.contrast`."""
        return self[outcome].contrast(*args, **options)

    def is_singular(self) -> bool:
        """Whether a random effect has no variance of its own, given those before it."""
        return view(self, 0).is_singular()

    def __repr__(self) -> str:
        return f"<MultivariateFit of {', '.join(self.names)}: {self.loglik()}>"
