"""Variance components, and the further parameters of the family, zi= and dispersion=."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dgmm.inference import random_profiles, reported
from dgmm.inference.covariate_effects import mean_part
from dgmm.inference.posterior import Scalars, scalars
from dgmm.inference.random_profiles import RandomProfile
from dgmm.prediction.random_effects import boundary_names
from dgmm.record import Fitted, check_not_recursive, parameter_information
from dgmm.runtime.result_table import Cells

__all__ = [
    "boundary",
    "component_cells",
    "family_parameters",
    "is_singular",
    "part_coefficients",
    "random_profile",
    "sigma",
    "var_corr",
]


def var_corr(fit: Fitted) -> pd.DataFrame:
    """Variance components of linear random effects, one row per (co)variance.

    Rows are named as in :meth:`confint` (``sd_(Intercept)|id``). Columns group, kind ("sd", "cor";
    "range" or "rho" of a path), name1, name2 (the second effect of a correlation), sdcor (the
    value), vcov, se_working (standard error on the scale on which intervals are made: of log SD or
    range, atanh correlation). A neural latent has no such table: its implied standard deviations
    over time are in the summary and in :meth:`random_profile`. Of draws from a posterior sdcor and
    vcov are posterior means, and a column sd, the posterior standard deviation of sdcor, stands in
    place of se_working.
    """
    if fit.sampled:
        return _of_draws(fit)
    return component_cells(fit).frame()


def component_cells(fit: Fitted) -> Cells:
    """The columns of :func:`var_corr` of a maximum."""
    found = reported.components(fit.estimate, parameter_information(fit), fit.memory.groups)
    table = found.columns
    columns = ["group", "kind", "name1", "name2", "estimate"]
    rows = [*zip(*(table[name] for name in columns), strict=True)]
    sd = {(group, one): value for group, kind, one, _, value in rows if kind == "sd"}
    vcov = [
        value**2
        if kind == "sd"
        else value * sd[group, one] * sd[group, two]
        if kind == "cor"
        else float("nan")
        for group, kind, one, two, value in rows
    ]
    return Cells(
        found.names,
        {
            "group": table["group"],
            "kind": table["kind"],
            "name1": table["name1"],
            "name2": table["name2"],
            "sdcor": table["estimate"],
            "vcov": vcov,
            "se_working": table["std_error"],
        },
    )


def _of_draws(fit: Fitted) -> pd.DataFrame:
    """The table of posterior means."""
    table = reported.components(fit.estimate, None, fit.memory.groups).table
    drawn = scalars(fit)
    names = [reported.component_name(row) for row in table.itertuples()]
    kept = ["group", "kind", "name1", "name2"]
    found = table[kept].copy()
    found["sdcor"] = [float(drawn[name].mean()) for name in names]
    found["vcov"] = [_second_moment(drawn, row) for row in table.itertuples()]
    found["sd"] = [float(drawn[name].std(ddof=1)) for name in names]
    return found.set_axis(names, axis=0)


def _second_moment(drawn: Scalars, row: Any) -> float:
    """The mean of a variance or a covariance."""
    own = drawn[reported.component_name(row)]
    if row.kind == "sd":
        return float((own**2).mean())
    sd = [drawn[f"sd_{name}|{row.group}"] for name in (row.name1, row.name2)]
    return float((own * sd[0] * sd[1]).mean())


def random_profile(
    fit: Fitted,
    times: Sequence[float] | None = None,
    *,
    term: int | None = None,
    at: Mapping[str, Any] | None = None,
    level: float = 0.95,
    draws: int = 4096,
    form: str = "lognormal",
) -> RandomProfile:
    """Standard deviation, correlation and share of the random part mu2(b, t) over time.

        SD(t) = sd{mu2(b, t)},   ICC(t) = var{mu2(b, t)} / [var{mu2(b, t)} + v_e]

    v_e is that of :meth:`icc`, the variance of one observation on the scale of the linear
    predictor where E(y) is its mean over the sample, and at the dispersion of t where dispersion=
    models it. Exact for linear random effects (T D T'), by quasi-random draws of b for neural ones.

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        times: values of the time variable; by default five from the first to the last.
        term: position of one random part; by default all that enter the mean together.
        at: values of other covariates of the random part; by default means and references.
        level: of the intervals, made on the log (SD) and logit (ICC) scale by the delta method;
            linear random effects only.
        draws: of b.
        form: of v_e under a log link, as in :meth:`icc`.

    Returns:
        A record with ``table`` (a row per time) and ``correlation`` (times by times).

    Example:
        >>> import dgmm
        >>> sleep = dgmm.datasets.load("sleepstudy")
        >>> fit = dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", sleep)
        >>> fit.random_profile([0, 9]).table["sd"].round(2).to_list()
        [23.78, 58.41]
    """
    check_not_recursive(fit, "random_profile()")
    mean = mean_part(fit)
    return random_profiles.random_profile(
        mean, times, term=term, at=at, level=level, draws=draws, form=form
    )


def sigma(fit: Fitted) -> float:
    """Residual standard deviation, 1 for families without one (as in R); of draws its mean.

    Missing when dispersion= gives every row its own, 0 when dispersion="~ 0" leaves no noise.
    """
    model = fit.estimate.model
    if not model.family.noise:
        return 0.0
    if fit.sampled and model.outcome.one_number("log_sigma") is not None:
        return float(scalars(fit)["sigma"].mean())
    if "log_sigma" not in model.family.extra:
        return 1.0
    at = model.outcome.one_number("log_sigma")
    return float("nan") if at is None else float(fit.estimate.theta["extra"][at].exp())


def family_parameters(fit: Fitted, level: float = 0.95) -> pd.DataFrame:
    """Further parameters of the family, such as a shape or a probability of zero.

    Columns estimate and std_error (delta method) on the natural scale, and lower, upper: a Wald
    interval made on the unconstrained scale. A residual standard deviation is in
    :meth:`var_corr` instead. Of draws from a posterior the means, standard deviations, quantiles.
    """
    if fit.sampled:
        return _family_draws(fit, level)
    return reported.family_parameters(fit.estimate, fit.information, level)


def _family_draws(fit: Fitted, level: float) -> pd.DataFrame:
    drawn, plain = scalars(fit), reported.family_parameters(fit.estimate, None, level)
    at = [drawn.names.index(str(name)) for name in plain.index]
    ends = drawn.intervals(level, "quantile")[at]
    plain["estimate"], plain["std_error"] = drawn.flat.mean(0)[at], drawn.flat.std(0, ddof=1)[at]
    plain["lower"], plain["upper"] = ends[:, 0], ends[:, 1]
    return plain


def part_coefficients(fit: Fitted) -> dict[str, pd.DataFrame]:
    """Wald tables of the coefficients of zi= and dispersion=, on the scale of their link."""
    return reported.part_coefficients(fit.estimate, fit.information)


def is_singular(fit: Fitted) -> bool:
    """True when a variance component is estimated at its boundary.

    Neural random effects have no variance components. With them a fit is singular when subjects
    differ in none of the directions of b, or in fewer than there are while the nested classical
    model is singular too (posterior means with a variance below 0.01 do not differ).
    """
    return bool(boundary(fit)) or _idle(fit)


def _idle(fit: Fitted) -> bool:
    done = fit.estimate
    if done.activity is None:
        return False
    below = done.nested is not None and bool(boundary_names(done.nested))
    used = [
        (done.activity.counts(term)[1], latent.dim)
        for term, latent in enumerate(done.model.latents)
        if latent.neural
    ]
    return any(not active or (below and active < dim) for active, dim in used)


def boundary(fit: Fitted) -> tuple[str, ...]:
    """Random effects without a variance of their own, given those before them in the formula.

    Their variance is zero, or they are a combination of the others (a correlation of 1 or -1, say):
    the notes of the summary say which.
    """
    from_info = fit.information.boundary if fit.information is not None else ()
    return from_info or boundary_names(fit.estimate)
