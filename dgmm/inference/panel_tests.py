"""Panel data: are random effects and covariates correlated, and are the covariates exogenous?

    Mundlak   coefficients pi of the means xbar_i are zero:        pi'V^-1 pi ~ chi2
    Hausman   within and random effects estimates agree:           d'(V_w - V_r)^-1 d ~ chi2
    leads     x_i,t+1 does not help to explain y_it within i

For a random intercept with the means of all covariates that vary within subjects the first two are
one number, when the variances of the Hausman test are those of the model with the means. Mundlak
(1978), Econometrica 46, 69-85; Hausman (1978) ibid. 1251-1271; Wooldridge (2010), Econometric
Analysis of Cross Section and Panel Data, sections 10.7.1 and 10.7.3.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from dgmm.design import names_of
from dgmm.estimate import Estimate
from dgmm.formula import linear_terms
from dgmm.inference import reported
from dgmm.inference.average_slopes import average_slopes
from dgmm.inference.contrasts import joint_test
from dgmm.inference.covariate_effects import mean_part
from dgmm.inference.panel_estimators import Estimators, estimators, within_of
from dgmm.inference.panel_sample import means_of, panel_sample, unnamed
from dgmm.inference.panel_table import PanelTest
from dgmm.inference.within import Estimator, Sample, quasi_demeaned
from dgmm.parameters import part
from dgmm.record import Fitted

__all__ = ["panel_test"]

RANK = 1e-9
"""Eigenvalue of V_w - V_r, in units of V_w, below which a direction is none of the difference."""

LEVEL = 0.95
"""Of the intervals of average partial effects."""


class Tested(NamedTuple):
    """A test, or why there is none."""

    values: dict[str, float]
    said: str = ""

    @classmethod
    def none(cls, said: str) -> Tested:
        """No test."""
        return cls({"Chisq": np.nan, "Df": np.nan, "Pr(>Chisq)": np.nan}, said)


def panel_test(fit: Fitted, time: str | None = None) -> PanelTest:
    """Tests of correlated random effects and of strict exogeneity, beside the estimators of panels.

        pi = 0 in E(b_i | X_i) = xbar_i'pi,   delta = 0 of x_i,t+1,   within = random effects

    Args:
        fit: a fit with ``(1 | cre(id, ~ x))`` and no network.
        time: the variable that orders the rows of a subject, for leads and differences; by default
            the time of the random part, else the order of the data frame.

    Returns:
        A record that prints itself, with ``table`` (per coefficient and estimator the estimate, its
        standard error and one robust to any dependence within subjects: within, random effects,
        correlated random effects, first differences), ``tests`` and, where the link is not the
        identity, ``partial_effects`` on the scale of the outcome. The within estimator of a
        Poisson or a logit model is that of the likelihood given the sums of subjects; other
        families have none.

    Raises:
        ValueError: no cre() in the formula, networks, several grouping factors, prior weights, zi=
            or dispersion=, or an unknown time.

    Example:
        >>> import dgmm
        >>> firms = dgmm.datasets.load("grunfeld")
        >>> text = "inv ~ value + capital + (1 | cre(firm, ~ value + capital))"
        >>> found = dgmm.mixed_model(text, firms).panel_test()
        >>> found.table[("within", "Estimate")].round(4).to_list()[1:3]
        [0.1101, 0.3101]

    References:
        Mundlak (1978), Econometrica 46, 69-85; Hausman (1978), Econometrica 46, 1251-1271;
        Wooldridge (2010), Econometric Analysis of Cross Section and Panel Data, chapter 10.
    """
    means = means_of(fit)
    sample = panel_sample(fit, time)
    levels = sample.columns(tuple(name for name in sample.names if name not in means))
    found = estimators(fit, sample, levels)
    missing = unnamed(sample, levels)
    tests = {
        "Mundlak: no effect of the means": Tested(_wald(found.cre, means)),
        "Mundlak, cluster-robust": Tested(_wald(found.cre, means, robust=True)),
        **_hausman(fit, found, levels, means, missing),
        "strict exogeneity: no effect of leads, cluster-robust": _leads(fit.estimate, levels),
    }
    notes = [one.said for one in tests.values() if one.said]
    if time is None and fit.memory.spec.time_name is None:
        notes.append(
            "rows of a subject follow each other as in the data; time= names another order"
        )
    if missing:
        notes.append(
            f"no mean in cre() of what varies within `{fit.memory.groups[0]}` and between: "
            f"{', '.join(f'`{name}`' for name in missing)}. Coefficients of the CRE column are no "
            "within estimates then, and Mundlak's test is not Hausman's"
        )
    if found.within is None:
        family = fit.estimate.model.family
        notes.append(
            f"no within estimator: there is no likelihood of family={family.name!r} with the "
            f"{family.link.name} link given the sums of subjects, or it has no maximum"
        )
    effects = None
    if np.isfinite(found.cre.vcov).all():
        effects = _effects(fit, levels)
    elif fit.estimate.model.family.link.name != "identity":
        notes.append("no average partial effects: the fit has no standard errors")
    return PanelTest(
        fit.formula,
        _table(sample.names, found),
        pd.DataFrame.from_dict({name: one.values for name, one in tests.items()}, orient="index"),
        effects,
        pd.Series(found.variances, dtype=float),
        tuple(dict.fromkeys(notes)),
    )


def _table(names: tuple[str, ...], found: Estimators) -> pd.DataFrame:
    columns = {
        "within": found.within,
        "random effects": found.random,
        "Swamy-Arora": found.swamy,
        "CRE": found.cre,
        "first differences": found.differences,
    }
    parts = {}
    for label, one in columns.items():
        if one is not None:
            values = {
                "Estimate": one.beta,
                "Std. Error": np.sqrt(np.diag(one.vcov)),
                "Robust SE": np.sqrt(np.diag(one.robust)),
            }
            for what, value in values.items():
                parts[label, what] = pd.Series(value, index=list(one.names)).reindex(names)
    return pd.DataFrame(parts)


def _effects(fit: Fitted, levels: Sample) -> pd.DataFrame | None:
    """Average partial effects of the covariates that vary within subjects."""
    model = fit.estimate.model
    if model.family.link.name == "identity" or fit.information is None:
        return None
    mean, varying = mean_part(fit, "response"), levels.varying()
    pairs = zip(model.names, fit.memory.terms, strict=True)
    terms = dict.fromkeys(term for name, term in pairs if name in varying)
    factors = [factor for term in terms for factor in linear_terms(term).factors]
    used = {name for factor in factors for name in names_of(factor, mean.covariates)}
    own = [name for name in mean.own if name in used]
    return average_slopes(mean, own, None, LEVEL)


# -- the tests -----------------------------------------------------------------------------------


def _wald(one: Estimator, names: tuple[str, ...], *, robust: bool = False) -> dict[str, float]:
    some = one.select(names)
    return joint_test(some.beta, some.robust if robust else some.vcov)


def _hausman(
    fit: Fitted, found: Estimators, levels: Sample, means: tuple[str, ...], missing: list[str]
) -> dict[str, Tested]:
    """The Hausman tests that the estimators allow."""
    if found.within is None:
        return {}
    if found.swamy is None:
        return {"Hausman": _difference(found.within, found.random)}
    pair = _at_variances(fit.estimate, found.within, levels)
    own = Tested.none("")  # it would be about coefficients whose means are not in the model
    if not missing:
        own = Tested.none(
            "Hausman with the variances of the CRE fit is for one random intercept alone"
        )
        own = own if pair is None else _difference(*pair, len(means))
    return {
        "Hausman, variances of the CRE fit": own,
        "Hausman, Swamy-Arora": _difference(found.within, found.swamy),
    }


def _at_variances(
    done: Estimate, inner: Estimator, levels: Sample
) -> tuple[Estimator, Estimator] | None:
    """Within and random effects at the variances of the fit, of one random intercept alone."""
    (latent, *others), extra = done.model.latents, done.theta["extra"]
    if others or latent.names != ("(Intercept)",) or not latent.by_columns:
        return None
    level = float(reported.covariance(latent, part(done.theta, "latent1."))[0, 0])
    noise = float(torch.exp(2 * extra[0]))
    X, y = quasi_demeaned(levels, level, noise)
    inverse = np.linalg.inv(X.T @ X)
    random = Estimator(levels.names, inverse @ (X.T @ y), noise * inverse, inverse)
    own = levels.columns(inner.names)
    Z = own.X - own.mean(own.X)[own.subject]
    return replace(inner, vcov=noise * np.linalg.inv(Z.T @ Z)), random


def _difference(inner: Estimator, other: Estimator, most: int | None = None) -> Tested:
    """d'(V_w - V_r)^- d over the coefficients of both, of rank at most ``most``."""
    names = tuple(name for name in inner.names if name in other.names)
    one, two = inner.select(names), other.select(names)
    root = np.sqrt(np.diag(one.vcov))
    V, d = (one.vcov - two.vcov) / root / root[:, None], (one.beta - two.beta) / root
    if not np.isfinite(V).all():
        return Tested.none(
            "Hausman: the random effects model beside it has no covariance of its coefficients; it "
            "has not converged"
        )
    value, vector = np.linalg.eigh(V)
    order = np.argsort(-np.abs(value))[:most]
    kept = order[np.abs(value[order]) > RANK]
    if not len(kept) or (value[kept] < 0).any():
        return Tested.none(
            "Hausman: V(within) - V(random effects) is not positive definite, which Mundlak's form "
            "cannot be"
        )
    turned = vector[:, kept]
    return Tested(joint_test(turned.T @ d, turned.T @ V @ turned))


def _leads(done: Estimate, levels: Sample) -> Tested:
    """Values of the next row in the within regression of this one."""
    longer = levels.with_leads(levels.varying())
    some = len(longer.y) > 0 and longer.count.max() > 1
    found = within_of(done, longer) if some else None
    leads = () if found is None else tuple(n for n in found.names if n not in levels.names)
    if found is None or not leads:
        return Tested.none("no test of leads: no within estimator, or no subject with three rows")
    return Tested(_wald(found, leads, robust=True))
