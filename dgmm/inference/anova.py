"""Tests of terms, of linear hypotheses and of nested models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dgmm.design import Alias
from dgmm.estimate import Estimate
from dgmm.inference import criteria
from dgmm.inference.contrasts import hypothesis, term_tests, wald_test
from dgmm.inference.drop_effects import drop_effects
from dgmm.inference.drop_terms import drop_terms
from dgmm.inference.fixed_effects import moments_of, vcov
from dgmm.inference.likelihood_ratio import compare_nested
from dgmm.inference.nesting import Candidate
from dgmm.inference.replicates import ratio_p_value
from dgmm.inference.stand_in import SIZE
from dgmm.inference.tables import Anova
from dgmm.record import Fitted, check_alone, check_maximum

__all__ = ["anova", "candidate", "drop1", "ranova"]


INSTEAD = (
    "compare models by loo(), read hypotheses off the draws (the share of "
    "posterior_draws(fit) beyond a value)"
)
"""What answers the question of a test where there is no maximum."""


def anova(
    fit: Fitted,
    *others: Fitted,
    L: Any = None,
    df: str | None = "auto",
    nsim: int | None = None,
    seed: int | None = None,
    workers: int = 1,
) -> Anova:
    """Test terms, a linear hypothesis, or nested models against each other.

        terms, L beta = 0:  (L b)'(L V L')^-1 (L b) ~ chi2(r), or F(r, df)
        nested models:      2 (l_1 - l_0) ~ chi2, or a mixture of chi2 for a variance

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        others: further fits; all are sorted by their parameters and each is tested against
            the one before it. One more random effect beside q correlated ones has the null
            distribution 1/2 chi2(q) + 1/2 chi2(q + 1).
        L: a dict {coefficient: factor}, a list of coefficients that are zero together, or an
            array (r, p). Without it and without others, one test per term.
        df: "satterthwaite" or "kenward-roger" for F (or t) tests of Gaussian linear models, None
            for chi-squared tests; "auto" as in :meth:`coefficients`.
        nsim: replicates of a parametric bootstrap in place of the chi2 distributions.
        seed: of that bootstrap; by default that of the fit.
        workers: processes of that bootstrap.

    Raises:
        ValueError: fits of different data, REML fits with different fixed parts, models that
            are not nested or have networks; the message says what differs.

    Example:
        >>> import dgmm
        >>> sleep = dgmm.datasets.load("sleepstudy")
        >>> big = dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", sleep)
        >>> small = dgmm.mixed_model("Reaction ~ Days + (1 | Subject)", sleep)
        >>> small.anova(big).table.loc["model 2", "null"]
        '0.5 chi2(1) + 0.5 chi2(2)'

    References:
        Stram and Lee (1994), Biometrics 50, 1171-1177; Fai and Cornelius (1996), J.
        Statistical Computation and Simulation 54, 363-378.
    """
    for one in (fit, *others):
        if isinstance(one, Fitted):
            check_maximum(one, "anova()", INSTEAD)
    if others:
        if L is not None or df not in (None, "auto"):
            raise ValueError("L= and df= belong to Wald tests of one fit; give one fit only")
        for one in others:
            if not isinstance(one, Fitted):
                raise TypeError(f"anova() compares fits of mixed_model(), not {one!r}")
        start = fit.call.seed if seed is None else seed
        return _of_models([fit, *others], nsim, start, workers)
    moments = moments_of(fit, df)
    V = vcov(fit).to_numpy() if moments is None else moments.covariance
    if L is None:
        return _with_left_out(fit, term_tests(fit.fixef(), V, fit.memory.terms, moments))
    left_out = [one.name for one in _left_out(fit)]
    rows = hypothesis(L, fit.estimate.model.names, left_out)
    return wald_test(fit.fixef(), V, rows, moments)


def _of_models(fits: Sequence[Fitted], nsim: int | None, seed: int, workers: int) -> Anova:
    """Each model against the one before it; with nsim by the parametric bootstrap."""
    candidates = [candidate(fit) for fit in fits]
    if nsim is None:
        return compare_nested(candidates)

    def simulated(small: Candidate, big: Candidate, value: float) -> tuple[float, int]:
        return ratio_p_value(small, big, value, nsim=nsim, seed=seed, workers=workers)

    return compare_nested(candidates, simulated)


def candidate(fit: Fitted) -> Candidate:
    """A fit as a comparison of models sees it."""
    return Candidate(
        ", ".join([fit.formula, *(f"{name} = {text}" for name, text in fit.call.parts().items())]),
        fit.estimate,
        fit.request,
        fit.memory.rows,
        fit.memory.left_out,
        fit.memory.covariates,
        tuple(criteria.groups_seen(fit)),
        criteria.df(fit),
        criteria.nobs(fit),
        _rows_seen(fit.estimate),
    )


def _rows_seen(done: Estimate) -> np.ndarray:
    """Positions of the rows with an outcome, or of what stands for rows not in memory."""
    if done.panel.sums is not None:
        return np.arange(SIZE)
    return np.flatnonzero(done.panel.observed.numpy())


JOINTLY = (
    "compare the joint fit with one of smaller formulas, joint.anova(joint.update(mv(...))), or "
    "take Wald tests of the terms, anova()"
)
"""Instead of tests that fit one of several outcomes again."""


def drop1(fit: Fitted) -> Anova:
    """AIC and likelihood-ratio test of every term of the fixed part that can be left out.

    A term within a higher interaction stays, as in R; columns are left out as they are coded.
    """
    check_maximum(fit, "drop1()", INSTEAD)
    check_alone(fit, "drop1()", JOINTLY)
    found = drop_terms(fit.estimate, fit.request, fit.memory.terms, criteria.df(fit))
    return _with_left_out(fit, found)


def _left_out(fit: Fitted) -> tuple[Alias, ...]:
    """Columns of the linear fixed part without an estimate."""
    return fit.memory.spec.aliases.get("fixed", ())


def _with_left_out(fit: Fitted, tests: Anova) -> Anova:
    """Tests of terms, with a note about columns that are in none of them."""
    columns: dict[str, list[str]] = {}
    for one in _left_out(fit):
        columns.setdefault(one.term, []).append(f"`{one.name}`")
    notes = (
        f"`{term}`: tested without {', '.join(names)}, not estimable"
        if term in tests.table.index
        else f"`{term}`: no test, {', '.join(names)} not estimable"
        for term, names in columns.items()
    )
    return replace(tests, notes=(*tests.notes, *notes))


def ranova(fit: Fitted) -> Anova:
    """AIC and likelihood-ratio test of every random effect that can be left out.

        2 (l - l_without) ~ 1/2 chi2(q) + 1/2 chi2(q + 1)

    q is the number of effects that it is correlated with. The last random effect is tested
    against independent observations. An intercept stays while its part has slopes. Columns
    of a basis such as ns() are left out one by one: for the whole term compare two fits by
    :meth:`anova`.

    References:
        Self and Liang (1987), J. American Statistical Association 82, 605-610.
    """
    check_maximum(fit, "ranova()", INSTEAD)
    check_alone(fit, "ranova()", JOINTLY)
    return drop_effects(fit.estimate, fit.request, fit.memory.groups, criteria.df(fit))
