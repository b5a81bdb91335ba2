"""Confidence intervals of the parameters of a fit, by four methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from dgmm.estimate.again import refit_estimate
from dgmm.inference import replicates, reported
from dgmm.inference.fixed_effects import std_errors
from dgmm.inference.posterior import scalars
from dgmm.inference.profile import check_profile, profile_interval
from dgmm.inference.replicates import Replicates
from dgmm.inference.resampling import percentile_intervals
from dgmm.inference.surfaces import targets
from dgmm.inference.variance_parameters import family_parameters, part_coefficients
from dgmm.inference.wald import intervals
from dgmm.record import Fitted, check_alone, check_maximum, parameter_information
from dgmm.runtime.registry import suggestion
from dgmm.runtime.result_table import ResultTable
from dgmm.runtime.warned import warn_user
from dgmm.runtime.whole_file import path_of

__all__ = ["bootstrap", "confint"]

METHODS = ("wald", "profile", "bootstrap", "percentile")

OF_DRAWS = ("quantile", "hdi")
"""The methods for draws from a posterior."""


def confint(
    fit: Fitted,
    level: float = 0.95,
    *,
    method: str | None = None,
    parm: str | Sequence[str] | None = None,
    nsim: int = 500,
    seed: int | None = None,
    workers: int = 1,
    path: str | Path | None = None,
) -> pd.DataFrame:
    """Confidence intervals of coefficients, standard deviations, correlations and sigma.

        wald:       theta_j +- z se_j; log(sd), atanh(correlation) and the unconstrained scale
                    of a parameter of the family for theta
        profile:    {v : 2 [l(theta-hat) - max l(theta; theta_j = v)] <= z^2}
        bootstrap:  percentiles of estimates from outcomes simulated from the fit
        percentile: percentiles of estimates from subjects drawn with replacement
        quantile:   of draws from the posterior, as many below as above
        hdi:        the shortest interval with a share ``level`` of these draws

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        level: probability that the interval covers.
        method: "wald" (the default), "profile" (classical models, and paths but for ssm() of
            several states; of the ML likelihood for REML fits, as in lme4), "bootstrap" (classical
            models) or "percentile" (fits with se="bootstrap"); "quantile" (the default there) or
            "hdi" for fits by method="gibbs".
        parm: names of rows to calculate; all by default (profile: coefficients and variance
            components; the parameters of the family have none).
        nsim: replicates of the bootstrap; 1000 or more for a report.
        seed: of the bootstrap; by default that of the fit.
        workers: processes of the bootstrap, one thread each.
        path: CSV file in which the bootstrap keeps its replicates; after an interruption the
            same call goes on where it ended.

    Raises:
        ValueError: an unknown name or method, or a method that the fit does not allow.

    Example:
        >>> import dgmm
        >>> sleep = dgmm.datasets.load("sleepstudy")
        >>> fit = dgmm.mixed_model("Reaction ~ Days + (Days | Subject)", sleep)
        >>> fit.confint(method="profile", parm="Days").round(2).to_numpy().tolist()
        [[7.36, 13.58]]

    References:
        Bates, Maechler, Bolker and Walker (2015), J. Statistical Software 67(1), section 5.1;
        Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13.
    """
    known = OF_DRAWS if fit.sampled else METHODS
    method = known[0] if method is None else method
    if method not in known:
        words = ", ".join(map(repr, known))
        raise ValueError(f"method={method!r} is not one of {words}, which this fit has")
    if fit.sampled:
        own = scalars(fit)
        ends = pd.DataFrame(
            own.intervals(level, method), index=list(own.names), columns=_percent(level)
        )
        return ends.loc[_chosen(parm, list(own.names))]
    wald = _wald(fit, level)
    names = _chosen(parm, list(wald.index))
    if method == "percentile":
        found = percentile_intervals(fit.estimate, fit.information, fit.memory.groups, level)
        wald = ResultTable(found, index=wald.index, columns=wald.columns)
    elif method == "profile":
        return _profile(fit, wald, names if parm is not None else None, level)
    elif method == "bootstrap":
        drawn = _replicates(fit, nsim, seed, workers, path)
        wald = ResultTable(drawn.intervals(level), index=wald.index, columns=wald.columns)
    return wald.loc[names]


def bootstrap(
    fit: Fitted,
    nsim: int = 500,
    *,
    seed: int | None = None,
    workers: int = 1,
    path: str | Path | None = None,
) -> Replicates:
    """Estimates from ``nsim`` simulated and refitted outcomes; see :meth:`confint`.

    The record has ``values``, a frame with one row per replicate, and ``failed``, the reasons
    why others could not be fitted.
    """
    check_maximum(fit, "bootstrap()", "its draws say how well parameters are known")
    check_alone(
        fit, "bootstrap()", "refit the joint model, joint.refit(joint.simulate(1, seed=1)[0])"
    )
    return replicates.bootstrap(
        fit.estimate,
        fit.request,
        fit.memory.groups,
        list(_wald(fit, 0.95).index),
        nsim=nsim,
        seed=fit.call.seed if seed is None else seed,
        workers=workers,
        path=None if path is None else path_of(path, "bootstrap"),
    )


# -- the four methods ----------------------------------------------------------------------------


def _wald(fit: Fitted, level: float) -> pd.DataFrame:
    fixed = fit.fixef()
    bounds = intervals(fixed.to_numpy(), std_errors(fit).to_numpy(), level)
    found = reported.components(fit.estimate, parameter_information(fit), fit.memory.groups)
    outer = found.intervals(level)
    names = [*fixed.index, *(reported.component_name(row) for row in found.table.itertuples())]
    own = family_parameters(fit, level)
    outer = np.vstack([outer, own[["lower", "upper"]].to_numpy()])
    names += list(own.index)
    for part, coefficients in part_coefficients(fit).items():
        pair = coefficients["Estimate"].to_numpy(), coefficients["Std. Error"].to_numpy()
        outer = np.vstack([outer, intervals(*pair, level)])
        names += [f"{part}_{name}" for name in coefficients.index]
    return ResultTable(np.vstack([bounds, outer]), index=names, columns=_percent(level))


def _percent(level: float) -> list[str]:
    return [f"{50 * (1 - level):g} %", f"{50 * (1 + level):g} %"]


def _profile(
    fit: Fitted, wald: pd.DataFrame, names: list[str] | None, level: float
) -> pd.DataFrame:
    """Profile intervals; the search begins at the ends of the Wald intervals."""
    done = fit.estimate
    check_alone(fit, "method='profile'", "take method='wald'")
    check_profile(done)
    if done.method == "reml":
        y = done.panel.rows.data.y
        done = refit_estimate(done, replace(fit.request, method="ml"), y)
    at = dict(zip(wald.index, targets(done), strict=False))
    names = list(at) if names is None else names
    for name in names:
        if name not in at:
            raise ValueError(
                f"there is no profile for {name!r}, a parameter of the family or of zi= "
                "or dispersion=; use method='wald' or 'bootstrap'"
            )
    ends = [profile_interval(done, at[name], tuple(wald.loc[name]), level) for name in names]
    return ResultTable(ends, index=names, columns=wald.columns)


def _replicates(
    fit: Fitted, nsim: int, seed: int | None, workers: int, path: str | Path | None
) -> Replicates:
    drawn = bootstrap(fit, nsim, seed=seed, workers=workers, path=path)
    if drawn.failed:
        warn_user(
            f"{len(drawn.failed)} of {nsim} bootstrap replicates could not be fitted and are "
            f"left out, the first because: {drawn.failed[0]}"
        )
    return drawn


def _chosen(parm: str | Sequence[str] | None, known: list[str]) -> list[str]:
    names = known if parm is None else [parm] if isinstance(parm, str) else list(parm)
    for name in names:
        if name not in known:
            hint = suggestion(str(name), known)
            raise ValueError(f"there is no parameter {name!r}{hint} Known: {', '.join(known)}.")
    return names
