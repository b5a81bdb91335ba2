"""The fixed part of a fit as a function of the covariates: curves, slopes, contrasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dgmm.inference.average_slopes import average_contrast, average_slopes
from dgmm.inference.curves import curve_table
from dgmm.inference.mean_part import MeanPart
from dgmm.record import Fitted, joint_information

__all__ = ["contrast", "effects", "held_covariates", "mean_part", "slopes"]


def effects(
    fit: Fitted,
    covariates: str | Sequence[str],
    *,
    term: str | None = None,
    at: Mapping[str, Any] | None = None,
    offset: float | None = None,
    grid: int = 101,
    level: float = 0.95,
    seed: int | None = None,
) -> pd.DataFrame:
    """The fixed part mu1 over a grid of a covariate, with pointwise and simultaneous bands.

        fit +- z se,   fit +- c se with c the quantile of max |J d| / se,  d ~ N(0, V)

    Every function of the covariates in the formula (splines, interactions, networks) follows;
    V is the joint covariance of linear coefficients and network weights.

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        covariates: one name, or two for a surface (of a second numeric covariate five values).
        term: the contribution of one term alone, such as "dnn(age)" or "ns(age, 3)", with mean
            zero over the sample; by default the whole fixed part.
        at: values of other covariates (by default means and reference levels), or the values
            that the grid goes through; also of the variables of offset() terms.
        offset: held at every point, 0 for rates per unit of exposure. By default an offset() term
            follows its variables, which are held at their means, and ``offset=`` of the fit is at
            its mean.
        grid: number of points, from the smallest to the largest value of the sample.
        level: probability that a pointwise interval covers, and that the whole curve lies
            inside the simultaneous band.
        seed: of the simulation of c; by default that of the fit.

    Returns:
        A frame with the covariates, ``fit, se, lower, upper, sim_lower, sim_upper`` on the
        scale of the linear predictor. With an offset in the fit a column ``offset`` says at which
        one ``fit`` stands.

    Raises:
        ValueError: an unknown covariate, level or term, or a fit without standard errors.

    Example:
        >>> import dgmm
        >>> milk = dgmm.datasets.load("milk")
        >>> fit = dgmm.mixed_model("protein ~ ns(Time, 4) + Diet + (1 | Cow)", milk)
        >>> fit.effects("Time", grid=3)["fit"].round(2).to_list()
        [3.85, 3.52, 3.6]

    References:
        Marra and Wood (2012), Scandinavian J. Statistics 39, 53-74; Ruppert, Wand and Carroll
        (2003), Semiparametric Regression, section 6.5.
    """
    return curve_table(
        mean_part(fit),
        covariates,
        term=term,
        at=at,
        offset=offset,
        grid=grid,
        level=level,
        seed=fit.call.seed if seed is None else seed,
    )


def held_covariates(fit: Fitted) -> dict[str, Any]:
    """Where :meth:`effects` holds covariates of the fixed part that it does not vary.

    Means of numbers over the rows of the fit, reference levels of categories; with an offset its
    variables, or ``offset`` itself.
    """
    mean = mean_part(fit)
    held = {name: mean.typical[name] for name in dict.fromkeys((*mean.own, *mean.of_offset))}
    if mean.mean_offset is not None:
        held[mean.spec.offset or "offset"] = mean.mean_offset
    return held


def slopes(
    fit: Fitted, covariates: str | Sequence[str] | None = None, *, level: float = 0.95
) -> pd.DataFrame:
    """Average slopes of covariates, linear or inside a network; all of them by default.

        mean over the observed rows of d mu1 / d x,   se by the delta method

    Of a category or a boolean, the average difference of every level from the reference.
    """
    return average_slopes(mean_part(fit), covariates, level)


def contrast(
    fit: Fitted, one: Mapping[str, Any], other: Mapping[str, Any], *, level: float = 0.95
) -> pd.DataFrame:
    """The average difference of mu1 between two settings, ``{"age": 60}`` and ``{"age": 40}``.

    mean over the observed rows of mu1(one, rest as observed) - mu1(other, rest as observed)
    """
    return average_contrast(mean_part(fit), one, other, level)


def mean_part(fit: Fitted) -> MeanPart:
    """mu1 of a fit at any covariates, with what is known of its parameters."""
    memory = fit.memory
    info = joint_information(fit)
    return MeanPart(fit.estimate, info, memory.spec, memory.covariates, memory.terms)
