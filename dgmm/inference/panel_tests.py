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

import numpy as np
import pandas as pd
import torch

from dgmm.design import Table
from dgmm.estimate import Estimate, Request
from dgmm.estimate.again import refit_without
from dgmm.inference import reported
from dgmm.inference.contrasts import joint_test
from dgmm.inference.covariate_effects import mean_part
from dgmm.inference.influential import gaussian_scores
from dgmm.inference.nesting import inside
from dgmm.inference.panel_table import PanelTest
from dgmm.inference.partial_effects import partial_effects
from dgmm.inference.within import (
    Estimator,
    Sample,
    first_differences,
    given_sum,
    quasi_demeaned,
    swamy_arora,
    within,
)
from dgmm.information import information
from dgmm.parameters import part
from dgmm.record import Fitted
from dgmm.runtime.registry import suggestion

__all__ = ["panel_test"]

WITHIN, RANDOM, SWAMY = "within", "random effects", "Swamy-Arora"
CORRELATED, DIFFERENCES = "CRE", "first differences"

NO_TEST = {"Chisq": np.nan, "Df": np.nan, "Pr(>Chisq)": np.nan}


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
    means = _means(fit)
    done, order = fit.estimate, _order(fit, time)
    sample = _sample(done, order)
    plain = tuple(name for name in sample.names if name not in means)
    levels = sample.columns(plain)
    linear = done.model.family.conjugate
    smaller = refit_without(done, _request(fit), [sample.names.index(name) for name in means])
    inner = within(levels) if linear else given_sum(done.model.family, levels)
    random, full = _mixed(fit, smaller), _mixed(fit, done)
    columns = {WITHIN: inner, RANDOM: random}
    notes = _of_order(fit, time)
    tests = {
        "Mundlak: no effect of the means": joint_test(*_of(full, means, robust=False)),
        "Mundlak, cluster-robust": joint_test(*_of(full, means, robust=True)),
    }
    unnamed = _unnamed(sample, levels)
    variances: dict[str, float] = {}
    if linear:
        swamy, level, noise = swamy_arora(levels)
        columns[SWAMY] = swamy
        variances = {"s_a": level, "s_e": noise}
        tests["Hausman, variances of the CRE fit"], said = _hausman(
            fit, levels, inner, means, unnamed
        )
        notes += said
        tests["Hausman, Swamy-Arora"], said = _difference(inner, swamy)
        notes += said
    elif inner is not None:
        tests["Hausman"], said = _difference(inner, random)
        notes += said
    columns[CORRELATED] = full
    if linear:
        columns[DIFFERENCES] = first_differences(levels)
    tests["strict exogeneity: no effect of leads, cluster-robust"], said = _leads(done, levels)
    notes += said
    if unnamed:
        notes.append(
            f"no mean in cre() of what varies within `{fit.memory.groups[0]}` and between: "
            f"{', '.join(f'`{name}`' for name in unnamed)}. Coefficients of the CRE column are no "
            "within estimates then, and Mundlak's test is not Hausman's"
        )
    if inner is None:
        name = done.model.family.name
        notes.append(f"no within estimator: family {name!r} has no sum that is free of the level")
    effects = None
    if done.model.family.link.name != "identity" and not done.model.serial:
        effects = _effects(fit, inner, levels, means)
    known = {name: one for name, one in columns.items() if one is not None}
    return PanelTest(
        fit.formula,
        _table(sample.names, known),
        pd.DataFrame.from_dict(tests, orient="index"),
        effects,
        pd.Series(variances, dtype=float),
        tuple(notes),
    )


# -- the sample ----------------------------------------------------------------------------------


def _means(fit: Fitted) -> tuple[str, ...]:
    """The columns that cre() adds, once a test of them is possible."""
    done, spec = fit.estimate, fit.memory.spec
    made = [one.names for key, one in spec.between.items() if key.startswith("given")]
    means = tuple(n for names in made for n in names if n in done.model.names)
    if not made:
        raise ValueError(
            f"panel_test() is about the means of covariates within subjects, and {fit.formula!r} "
            "has none: fit it with (1 | cre(id, ~ x)), x the covariates that vary within subjects"
        )
    if not means:
        raise ValueError("panel_test(): no mean of cre() varies between the subjects")
    if not done.model.linear:
        raise ValueError(
            "panel_test() is for models without dnn(): a network of the means takes part of what "
            "is tested. Refit with linear terms, cre(id, ~ x)"
        )
    if done.panel.several:
        raise ValueError("panel_test() is for one grouping factor: the subjects of the panel")
    if done.model.parts:
        raise ValueError("panel_test() is for models without zi= and dispersion=")
    if bool((done.observed.rows.data.weights != 1).any()):
        raise ValueError("panel_test() is for fits without prior weights, weights=")
    return means


def _order(fit: Fitted, time: str | None) -> np.ndarray:
    """What sorts the observed rows of a subject, (N_obs,)."""
    memory, seen = fit.memory, fit.estimate.panel.observed.numpy()
    name = memory.spec.time_name if time is None else time
    if name is None:
        return memory.rows[seen]
    if name in memory.covariates:
        return memory.covariates[name].values[seen]
    table = Table.of({} if memory.frame is None else memory.frame)
    if name not in table.names:
        known = list(dict.fromkeys([*memory.covariates, *table.names]))
        raise ValueError(f"panel_test(): there is no column {name!r}{suggestion(name, known)}")
    codes, _ = pd.factorize(table.series(name), sort=True)
    return codes[memory.rows[seen]]


def _of_order(fit: Fitted, time: str | None) -> list[str]:
    if time is not None or fit.memory.spec.time_name is not None:
        return []
    return ["rows of a subject follow each other as in the data; name their time by time="]


def _sample(done: Estimate, order: np.ndarray) -> Sample:
    panel = done.observed
    sorted_rows = np.lexsort([order, panel.subject.numpy()])
    rows = panel.rows
    y = rows.data.y / rows.data.trials
    _, subject = np.unique(panel.subject.numpy()[sorted_rows], return_inverse=True)
    columns = (rows.X, y, rows.offset)
    X, y, offset = (one.numpy()[sorted_rows] for one in columns)
    return Sample(tuple(done.model.names), X, y, offset, subject)


def _unnamed(sample: Sample, levels: Sample) -> list[str]:
    """The columns that vary within subjects and whose means the model does not hold."""
    own = levels.columns(levels.varying())
    means = own.mean(own.X)[own.subject]
    known = inside(means, sample.X)
    return [name for name, held in zip(own.names, known, strict=True) if not held]


# -- the estimators ------------------------------------------------------------------------------


def _request(fit: Fitted) -> Request:
    """The request of the fit, without an encoder."""
    request = fit.request
    return replace(request, method="ml") if request.method == "vae" else request


def _mixed(fit: Fitted, done: Estimate) -> Estimator:
    """Coefficients of a mixed model; of a Gaussian one by generalized least squares."""
    names, basis = tuple(done.model.names), done.model.basis
    beta = done.model.beta(done.theta).detach().numpy()
    if done.likelihood.normal:
        scores, inner = gaussian_scores(done)
        inverse = torch.linalg.inv(inner.sum(0))
        vcov = basis @ inverse @ basis.T
        moved = scores @ inverse @ basis.T
        return Estimator(names, beta, vcov.numpy(), (moved.T @ moved).numpy())
    draws, seed = fit.call.control.hessian_draws, fit.call.seed
    found = [
        reported.beta_vcov(done, information(done, kind, seed, draws), "default")
        for kind in ("hessian", "sandwich")
    ]
    return Estimator(names, beta, *found)


def _table(names: tuple[str, ...], columns: dict[str, Estimator]) -> pd.DataFrame:
    parts = {}
    for name, one in columns.items():
        index = list(one.names)
        for what, values in (
            ("Estimate", one.beta),
            ("Std. Error", np.sqrt(np.diag(one.vcov))),
            ("Robust SE", np.sqrt(np.diag(one.robust))),
        ):
            parts[name, what] = pd.Series(values, index=index).reindex(names)
    return pd.DataFrame(parts)


def _effects(
    fit: Fitted, inner: Estimator | None, levels: Sample, means: tuple[str, ...]
) -> pd.DataFrame:
    """Average partial effects of the covariates that vary within subjects."""
    mean, names = mean_part(fit), fit.estimate.model.names
    varying = set(levels.varying())
    terms = {t for t, n in zip(fit.memory.terms, names, strict=True) if n in varying}
    own = [one for one in mean.own if any(one in term for term in terms)]
    return partial_effects(mean, own, [names.index(name) for name in means])


# -- the tests -----------------------------------------------------------------------------------


def _of(one: Estimator, names: tuple[str, ...], *, robust: bool) -> tuple[np.ndarray, np.ndarray]:
    some = one.select(names)
    return some.beta, some.robust if robust else some.vcov


def _hausman(
    fit: Fitted, levels: Sample, inner: Estimator, means: tuple[str, ...], unnamed: list[str]
) -> tuple[dict[str, float], list[str]]:
    """The Hausman test with the variances of the fit: one random intercept, given all means."""
    done = fit.estimate
    if unnamed:
        return NO_TEST, []
    latents = done.model.latents
    if len(latents) > 1 or latents[0].names != ("(Intercept)",) or not latents[0].by_columns:
        return NO_TEST, ["Hausman with the variances of the fit: for one random intercept alone"]
    level = float(reported.covariance(latents[0], part(done.theta, "latent1."))[0, 0])
    noise = float(torch.exp(2 * done.theta["extra"][0]))
    X, y = quasi_demeaned(levels, level, noise)
    inverse = np.linalg.inv(X.T @ X)
    random = Estimator(levels.names, inverse @ (X.T @ y), noise * inverse, inverse)
    Z = levels.columns(inner.names)
    Z = Z.X - Z.mean(Z.X)[Z.subject]
    exact = replace(inner, vcov=noise * np.linalg.inv(Z.T @ Z))
    return _difference(exact, random, len(means))


def _difference(
    inner: Estimator, other: Estimator, most: int | None = None
) -> tuple[dict[str, float], list[str]]:
    """d'(V_w - V_r)^- d over the coefficients of both, of rank at most ``most``."""
    names = tuple(name for name in inner.names if name in other.names)
    one, two = inner.select(names), other.select(names)
    V, d = one.vcov - two.vcov, one.beta - two.beta
    root = np.sqrt(np.diag(one.vcov))
    value, vector = np.linalg.eigh(V / root / root[:, None])
    kept = np.abs(value) > 1e-9
    if most is not None and kept.sum() > most:
        kept = np.argsort(-np.abs(value)).argsort() < most
    if not kept.any() or (value[kept] < 0).any():
        said = (
            "Hausman: the difference of the two covariances is not positive definite; see Mundlak"
        )
        return NO_TEST, [said]
    turned = vector[:, kept]
    return joint_test(turned.T @ (d / root), turned.T @ (V / root / root[:, None]) @ turned), []


def _leads(done: Estimate, levels: Sample) -> tuple[dict[str, float], list[str]]:
    """Values of the next row in the within regression of this one."""
    varying = levels.varying()
    longer = levels.with_leads(varying)
    family = done.model.family
    found = None
    if len(longer.y) and longer.count.max() > 1:
        found = within(longer) if family.conjugate else given_sum(family, longer)
    leads = () if found is None else tuple(n for n in found.names if n not in levels.names)
    if found is None or not leads:
        return NO_TEST, ["leads: no test (no within estimator, or no subject with three rows)"]
    return joint_test(*_of(found, leads, robust=True)), []
