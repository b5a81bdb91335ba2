"""The mean of a fit as a function of the covariates: curves, slopes, contrasts.

On scale="link" they are about the linear predictor mu1; on scale="response" about the mean, of the
population (type="marginal", random effects integrated out, the default) or of the subject whose
random effects are zero (type="mean_subject"). The title of every table says which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dgmm.inference.average_slopes import average_contrast, average_slopes
from dgmm.inference.curves import curve_table
from dgmm.inference.mean_part import MeanPart
from dgmm.inference.quantities import quantity
from dgmm.record import Fitted, joint_information

__all__ = ["contrast", "effects", "held_covariates", "mean_part", "slopes"]


def effects(
    fit: Fitted,
    covariates: str | Sequence[str],
    *,
    scale: str = "link",
    type: str | None = None,
    term: str | None = None,
    at: Mapping[str, Any] | None = None,
    offset: float | None = None,
    grid: int = 101,
    level: float = 0.95,
    seed: int | None = None,
) -> pd.DataFrame:
    """The fixed part over a grid of a covariate, with pointwise and simultaneous bands.

        fit +- z se,   fit +- c se with c the quantile of max |J d| / se,  d ~ N(0, V)

    of mu1 or of a mean, whose bands are made on its link scale.

    Every function of the covariates in the formula (splines, interactions, networks) follows;
    V is the joint covariance of linear coefficients and network weights.

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        covariates: one name, or two for a surface (of a second numeric covariate five values).
        scale: "link" (the linear predictor) or "response" (the mean).
        type: of a mean: "marginal", E g^-1(eta) over the population, or "mean_subject", g^-1(mu1).
        term: the contribution of one term alone, such as "dnn(age)" or "ns(age, 3)", with mean
            zero over the sample; by default the whole fixed part.
        at: values of other covariates (by default means and reference levels), or the values
            that the grid goes through; also of the variables of offset() terms.
        offset: held at every point, 0 for rates per unit of exposure, the default of means. By
            default of the linear predictor an offset() term follows its variables, which are held
            at their means, and ``offset=`` of the fit is at its mean.
        grid: number of points, from the smallest to the largest value of the sample.
        level: probability that a pointwise interval covers, and that the whole curve lies
            inside the simultaneous band.
        seed: of the simulation of c; by default that of the fit.

    Returns:
        A frame with the covariates, ``fit, se, lower, upper, sim_lower, sim_upper`` on the
        scale asked for; its title says which. With an offset in the fit a column ``offset`` says at
        which one ``fit`` stands.

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
        mean_part(fit, scale, type),
        covariates,
        term=term,
        at=at,
        offset=offset,
        grid=grid,
        level=level,
        seed=fit.call.seed if seed is None else seed,
    )


def held_covariates(fit: Fitted, scale: str = "link") -> dict[str, Any]:
    """Where :meth:`effects` holds covariates of the fixed part that it does not vary.

    Means of numbers over the rows of the fit, reference levels of categories; with an offset its
    variables, or ``offset`` itself, which on scale="response" is 0.
    """
    mean = mean_part(fit, scale)
    of_offset = () if mean.quantity.offset is not None else mean.of_offset
    held = {name: mean.typical[name] for name in dict.fromkeys((*mean.own, *of_offset))}
    if mean.has_offset and mean.quantity.offset is not None:
        held["offset"] = mean.quantity.offset
    elif mean.mean_offset is not None:
        held[mean.spec.offset or "offset"] = mean.mean_offset
    return held


def slopes(
    fit: Fitted,
    covariates: str | Sequence[str] | None = None,
    *,
    scale: str = "link",
    type: str | None = None,
    offset: float | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Average slopes of covariates, linear or inside a network; all of them by default.

        mean over the observed rows of d f / d x,   se by the delta method

    Of a category or a boolean, the average difference of every level from the reference.

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        covariates: names, by default all of the fixed part.
        scale: of f: "link" (the linear predictor) or "response" (the mean).
        type: of a mean: of the population ("marginal", the default) or of the subject whose random
            effects are zero ("mean_subject").
        offset: of every row; by default 0 for means, a rate, and its own for the linear predictor.
        level: probability that an interval covers.

    References:
        Bartus (2005), Stata Journal 5, 309-329.
    """
    return average_slopes(mean_part(fit, scale, type), covariates, offset, level)


def contrast(
    fit: Fitted,
    one: Mapping[str, Any],
    other: Mapping[str, Any],
    *,
    scale: str = "link",
    type: str | None = None,
    compare: str = "difference",
    offset: float | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Two settings compared, ``{"age": 60}`` and ``{"age": 40}``, averaged over the sample.

        difference   m1 - m0,    ratio  m1 / m0,    odds ratio  {m1 / (1 - m1)} / {m0 / (1 - m0)}

    with m the mean over the observed rows of f(setting, all else as observed).

    Args:
        fit: a fit of :func:`dgmm.mixed_model`.
        one: covariates and their values.
        other: the same, of the setting that it is compared with.
        scale: of f, see :meth:`slopes`.
        type: of a mean, see :meth:`slopes`.
        compare: "difference", "ratio" (of means, of rates) or "odds_ratio". On the link scale a
            ratio is the exponential of a difference of predictors under a log link, an odds ratio
            under a logit link: those of a subject. Intervals and tests are those of logarithms.
        offset: of every row; by default 0 for means, a rate, and its own for the linear predictor.
        level: probability that an interval covers.

    Raises:
        ValueError: an unknown covariate or word; a ratio of predictors with another link.

    Example:
        >>> import dgmm
        >>> epil = dgmm.datasets.load("epil")
        >>> fit = dgmm.mixed_model("y ~ trt + lbase + (1 | subject)", epil, family="poisson")
        >>> arms = {"trt": "progabide"}, {"trt": "placebo"}
        >>> fit.contrast(*arms, scale="response", compare="ratio")["Estimate"].round(3).to_list()
        [0.716]
    """
    mean = mean_part(fit, scale, type)
    return average_contrast(mean, one, other, compare, offset, level)


def mean_part(fit: Fitted, scale: str = "link", type: str | None = None) -> MeanPart:
    """A quantity of a fit at any covariates, with what is known of its parameters."""
    memory = fit.memory
    info = joint_information(fit)
    of_mean = quantity(fit.estimate, scale, type)
    return MeanPart(of_mean, info, memory.spec, memory.covariates, memory.terms)
