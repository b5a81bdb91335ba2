"""Checks of residuals, and of what is told of subjects."""

from __future__ import annotations

import numpy as np

from dgmm.diagnostics.evidence import Evidence
from dgmm.diagnostics.finding import LOOK, Check, Finding
from dgmm.families import Family
from dgmm.inference.influential import influence

__all__ = ["RESIDUALS", "SUBJECTS"]

FAR = 0.05
"""Expected number of residuals as far out as those that are named."""

NAMED = 5

COUNTED = ("counts", "trials")
"""Kinds of outcomes that are counted, for which there are families with more dispersion."""

COOK = 1.0
"""Cook's distance of a subject without whom the coefficients leave the region of probability 1/2.

Cook and Weisberg (1982), Residuals and Influence in Regression, section 3.5."""


def _tested(
    evidence: Evidence, name: str, check: str, said: str, meaning: str, advice: str
) -> Finding | None:
    """The finding of a test; the verdict comes from all of them."""
    found = evidence.tested.get(name)
    if found is None:
        return None
    if not found.df:
        said = "the estimate takes up all that could be seen"
    return Finding(
        check,
        said,
        meaning=meaning,
        advice=advice,
        statistic=found.statistic,
        df=found.df,
        p=found.p,
    )


def _wider(family: Family) -> str:
    """Where outcomes of such a kind are more spread out than a family has them."""
    if family.support == "real":
        return "student_t for heavy tails"
    return "negative_binomial, beta_binomial" if family.support in COUNTED else "another link"


def uniformity(evidence: Evidence) -> Finding | None:
    """Residuals given the random effects are uniform."""
    family = evidence.done.model.family
    return _tested(
        evidence,
        "uniformity",
        "distribution of y given b",
        "quantile residuals given random effects, smooth test",
        "outcomes are not distributed as the family says",
        "another family or link"
        + (", dispersion=" if family.dispersion is not None else "")
        + (", zi=" if family.support in COUNTED else "")
        + "; plot_residuals() shows where",
    )


def population(evidence: Evidence) -> Finding | None:
    """Residuals over the population are uniform, missing outcomes completed."""
    gaps = not bool(evidence.done.panel.observed.all())
    return _tested(
        evidence,
        "population",
        "distribution of y over subjects",
        "quantile residuals over the population, smooth test"
        + (", missing outcomes completed from the model" if gaps else ""),
        "the outcomes of all subjects together are not distributed as the model says",
        "other random effects, or a family for the outcome as it is",
    )


def level(evidence: Evidence) -> Finding | None:
    """Residuals do not bend with the mean, or with time."""
    return _tested(
        evidence,
        "mean",
        "shape of the mean",
        "residuals against the squares of the mean and of time",
        "a curve is missing in the fixed part",
        "ns() of time or of a covariate, an interaction, another link",
    )


def spread(evidence: Evidence) -> Finding | None:
    """The spread of residuals is the same everywhere."""
    family = evidence.done.model.family
    return _tested(
        evidence,
        "spread",
        "constant spread",
        "squared residuals against the mean and time",
        "the spread depends on the mean or on time: standard errors are off",
        "dispersion='~ time', a family whose variance follows the mean, a random slope"
        if family.dispersion is not None
        else f"{_wider(family)}, a random slope",
    )


def dispersion(evidence: Evidence) -> Finding | None:
    """Counts vary as their family says."""
    seen = evidence.seen
    ratio = float(np.square(seen.z).sum() / seen.observed.sum())
    return _tested(
        evidence,
        "dispersion",
        "dispersion",
        f"mean squared residual {ratio:.2f}, expected 1",
        "counts vary more (above 1) or less than the family allows: standard errors are too small "
        "or too large",
        "negative_binomial, beta_binomial or generalized_poisson; or an effect of every row",
    )


def zeros(evidence: Evidence) -> Finding | None:
    """Zeros are as many as expected."""
    zero = evidence.seen.zero
    if zero is None:
        return None
    seen = int((evidence.done.panel.rows.data.y == 0).sum())
    return _tested(
        evidence,
        "zeros",
        "zeros",
        f"{seen} zeros, {seen - zero.sum():.0f} expected",
        "zeros come about by another process than other counts, or counts are overdispersed",
        "zi='~ 1', a hurdle family, negative_binomial",
    )


def outliers(evidence: Evidence) -> Finding | None:
    """The outer hundredth of residuals holds a hundredth; those far out are named."""
    seen, memory, family = evidence.seen, evidence.fit.memory, evidence.done.model.family
    outer = 2 * np.minimum(seen.u, 1 - seen.u)
    count, size = int((outer < 0.01).sum()), int(seen.observed.sum())
    said = f"{count} of {size} residuals in the outer 1 %"
    far = np.flatnonzero(seen.observed & (outer < FAR / size))
    if len(far):
        labels = [str(memory.labels[j]) for j in far[np.argsort(outer[far])][:NAMED]]
        said += f"; far out: row {', '.join(labels)}"
    return _tested(
        evidence,
        "outliers",
        "outliers",
        said,
        "tails are heavier (or lighter) than the family's",
        f"look at the rows named; {_wider(family)}",
    )


def autocorrelation(evidence: Evidence) -> Finding | None:
    """Residuals of consecutive visits are not correlated."""
    seen = evidence.seen
    at = np.flatnonzero(seen.observed)
    pair = seen.subject[at[1:]] == seen.subject[at[:-1]]
    z = seen.z[at]
    value = float((z[1:] * z[:-1])[pair].mean()) if pair.any() else np.nan
    return _tested(
        evidence,
        "autocorrelation",
        "autocorrelation",
        f"{value:+.2f} between consecutive visits",
        "visits close in time are more alike than random effects say: standard errors of what "
        "varies within subjects are off",
        "(ar1(time) | id) or (ou(time) | id), a random slope, ns(time) left of the bar",
    )


def effects(evidence: Evidence) -> Finding | None:
    """Random effects are normal."""
    return _tested(
        evidence,
        "effects",
        "normality of b",
        "skewness and tails of draws of b given y",
        "subjects form groups, or some are far from all others: fixed effects of linear models are "
        "hardly touched, predictions of subjects and population averages are",
        "a covariate that tells the groups apart, "
        + ("dnn(...) left of a bar" if evidence.done.model.linear else "another latent= or ridge="),
    )


def influential(evidence: Evidence) -> Finding | None:
    """Subjects without whom the coefficients are others."""
    done = evidence.done
    if not done.model.linear or done.sampled or evidence.fit.information is None:
        return None
    try:
        table = influence(evidence.fit)["cooks_distance"]
    except (ValueError, ArithmeticError):
        return None
    who, most = table.idxmax(), float(table.max())
    many = int((table > COOK).sum())
    said = f"largest Cook's distance {most:.2g}, {table.index.name} {who}"
    if not many:
        return Finding("influential subjects", said)
    return Finding(
        "influential subjects",
        f"{said}; {many} above {COOK:g}",
        LOOK,
        "without such a subject the coefficients are outside of their region of probability 1/2",
        "look at its data; report the fit with and without it, see influence()",
    )


RESIDUALS: tuple[Check, ...] = (
    uniformity,
    population,
    level,
    spread,
    dispersion,
    zeros,
    outliers,
    autocorrelation,
)
SUBJECTS: tuple[Check, ...] = (effects, influential)
