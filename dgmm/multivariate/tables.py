"""Estimates of a joint fit: coefficients by outcome, one covariance of the random effects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from dgmm.inference import fixed_effects, variance_parameters
from dgmm.inference.criteria import LogLik
from dgmm.information import reported_packing, uncertainty
from dgmm.multivariate.record import FittedOutcomes
from dgmm.multivariate.views import view
from dgmm.prediction import ranef as of_subjects

__all__ = [
    "aic",
    "bic",
    "coef",
    "coefficients",
    "confint",
    "correlation",
    "deviance",
    "df",
    "family_parameters",
    "fixef",
    "loglik",
    "n_groups",
    "nobs",
    "ranef",
    "sigma",
    "std_errors",
    "var_corr",
    "vcov",
]


def fixef(fit: FittedOutcomes) -> pd.Series:
    """Linear coefficients of all outcomes, by outcome and name."""
    model, theta = fit.estimate.model, fit.estimate.theta
    parts = {
        one.name: pd.Series(one.beta(theta).detach().numpy(), index=list(one.names))
        for one in model.outcomes
    }
    return pd.concat(parts, names=["outcome", "term"]).rename("Estimate")


def vcov(fit: FittedOutcomes) -> pd.DataFrame:
    """Covariance matrix of the linear coefficients of all outcomes together."""
    done, index = fit.estimate, fixef(fit).index
    if fit.information is None:
        return pd.DataFrame(np.nan, index=index, columns=index)
    spread = uncertainty(done, fit.information).of(
        lambda theta: torch.cat([one.beta(theta) for one in done.model.outcomes])
    )
    return pd.DataFrame(spread.covariance.numpy(), index=index, columns=index)


def std_errors(fit: FittedOutcomes) -> pd.Series:
    """Standard errors of the linear coefficients."""
    V = vcov(fit)
    with np.errstate(invalid="ignore"):
        return pd.Series(np.sqrt(np.diag(V)), index=V.index, name="Std. Error")


def coefficients(fit: FittedOutcomes) -> pd.DataFrame:
    """The Wald tables of the linear coefficients, one after the other."""
    return _stacked(fit, fixed_effects.coefficients, "term")


def family_parameters(fit: FittedOutcomes, level: float = 0.95) -> pd.DataFrame:
    """Further parameters of the families, by outcome."""
    return _stacked(fit, lambda one: variance_parameters.family_parameters(one, level), "parameter")


def _stacked(fit: FittedOutcomes, of: Any, name: str) -> pd.DataFrame:
    tables = {one: of(view(fit, o)) for o, one in enumerate(fit.names)}
    kept = {key: table for key, table in tables.items() if len(table)} or tables
    return pd.concat(kept, names=["outcome", name])


def var_corr(fit: FittedOutcomes) -> pd.DataFrame:
    """Variance components of all random effects, and the residual of every outcome that has one.

    Columns as in :meth:`dgmm.Fit.var_corr`; name1 and name2 carry the outcome, ``y:(Intercept)``.
    """
    first = variance_parameters.var_corr(view(fit, 0))
    tables = [first[first["group"] != "Residual"]]
    for o, name in enumerate(fit.names):
        table = first if o == 0 else variance_parameters.var_corr(view(fit, o))
        tables.append(table[table["group"] == "Residual"].assign(name1=name))
    return pd.concat(tables, ignore_index=True)


def correlation(fit: FittedOutcomes) -> pd.DataFrame:
    """The correlation matrix of all random effects; effects without correlation have zeros."""
    table = var_corr(fit)
    sd = table[(table["kind"] == "sd") & (table["group"] != "Residual")]
    names = sd["name1"].tolist()
    matrix = pd.DataFrame(np.eye(len(names)), index=names, columns=names)
    for _, row in table[table["kind"] == "cor"].iterrows():
        matrix.loc[row["name1"], row["name2"]] = row["sdcor"]
        matrix.loc[row["name2"], row["name1"]] = row["sdcor"]
    return matrix


def sigma(fit: FittedOutcomes) -> pd.Series:
    """Residual standard deviation of every outcome, missing where its family has none."""
    values = {name: variance_parameters.sigma(view(fit, o)) for o, name in enumerate(fit.names)}
    return pd.Series(values, name="sigma")


def confint(fit: FittedOutcomes, level: float = 0.95) -> pd.DataFrame:
    """Wald intervals of all parameters: coefficients by outcome, then variance components.

    Intervals are made on the scale of the logarithm of a standard deviation and of atanh of a
    correlation.
    """
    tables: dict[str, pd.DataFrame] = {}
    for o, name in enumerate(fit.names):
        one = view(fit, o)
        whole = one.confint(level=level)
        tables[name] = whole.loc[[term for term in one.fixef().index if term in whole.index]]
        rest = whole.drop(index=one.fixef().index)
        if o == 0:
            tables["random effects"] = rest[rest.index != "sigma"]
        if "sigma" in rest.index:
            tables[name] = pd.concat([tables[name], rest.loc[["sigma"]]])
    tables["random effects"] = tables.pop("random effects")
    return pd.concat(tables, names=["outcome", "parameter"])


def ranef(fit: FittedOutcomes, *, cond_var: bool = False) -> pd.DataFrame:
    """E(b | y) per subject given its outcomes of all kinds, columns ``y:(Intercept)``."""
    found: pd.DataFrame = of_subjects.ranef(view(fit, 0), cond_var=cond_var)
    return found


def coef(fit: FittedOutcomes) -> dict[str, pd.DataFrame]:
    """Fixed plus random effects of every subject, a table per outcome."""
    effects, tables = ranef(fit), {}
    own = _effects_of_outcomes(fit)
    for o, outcome in enumerate(fit.estimate.model.outcomes):
        beta = fixef(fit)[outcome.name]
        table = pd.DataFrame(
            np.tile(beta.to_numpy(), (len(effects), 1)), index=effects.index, columns=beta.index
        )
        for column, name in own[o]:
            table[name] = table.get(name, 0.0) + effects.iloc[:, column]
        tables[outcome.name] = table
    return tables


def _effects_of_outcomes(fit: FittedOutcomes) -> list[list[tuple[int, str]]]:
    """Of every outcome its columns of ranef() and the names of the coefficients they add to."""
    model = fit.estimate.model
    found: list[list[tuple[int, str]]] = [[] for _ in model.outcomes]
    first = 0
    for latent, entries in zip(model.latents, model.entries, strict=True):
        for entry in entries:
            name = model.outcomes[entry.outcome].name
            columns = range(first, first + len(latent.names))
            for place, (start, end) in [
                (n, (a, z)) for n, a, z in latent.places or ((name, 0, len(latent.names)),)
            ]:
                if place == name:
                    found[entry.outcome] += [
                        (columns[j], latent.names[j].removeprefix(f"{name}:"))
                        for j in range(start, end)
                    ]
        first += len(latent.names)
    return found


# -- the likelihood --------------------------------------------------------------------------------


def nobs(fit: FittedOutcomes) -> int:
    """Number of observed outcomes of all kinds."""
    return sum(int(panel.observed.sum()) for panel in fit.estimate.panel.panels)


def n_groups(fit: FittedOutcomes) -> int:
    """Number of subjects with an outcome of any kind."""
    counts = [panel.count for panel in fit.estimate.observed.panels]
    return int((torch.stack(counts).sum(0) > 0).sum())


def df(fit: FittedOutcomes) -> float:
    """Number of parameters."""
    return float(reported_packing(fit.estimate.model).size)


def loglik(fit: FittedOutcomes) -> LogLik:
    """Marginal log-likelihood of all outcomes with its numerical error."""
    done = fit.estimate
    word, sampled = done.likelihood.word, done.likelihood.sampled
    return LogLik(done.log_likelihood, done.mc_error, df(fit), nobs(fit), word, sampled)


def deviance(fit: FittedOutcomes) -> float:
    """-2 log-likelihood."""
    return -2 * fit.estimate.log_likelihood


def aic(fit: FittedOutcomes) -> float:
    """-2 l + 2 df."""
    return deviance(fit) + 2 * df(fit)


def bic(fit: FittedOutcomes) -> float:
    """-2 l + log(n) df, n the number of observed outcomes."""
    return deviance(fit) + float(np.log(nobs(fit))) * df(fit)
