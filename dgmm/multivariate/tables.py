"""Estimates of a joint fit: coefficients by outcome, one covariance of the random effects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from dgmm.families.links import ATANH
from dgmm.inference import fixed_effects, variance_parameters
from dgmm.inference.criteria import COMPARE, LogLik
from dgmm.inference.wald import intervals
from dgmm.information import reported_packing, uncertainty
from dgmm.latent import columns_of
from dgmm.multivariate.record import FittedOutcomes
from dgmm.multivariate.views import view
from dgmm.numerics.quadrature import sobol_normal
from dgmm.parameters import Theta, part
from dgmm.prediction import ranef as of_subjects
from dgmm.record import check_maximum

__all__ = [
    "aic",
    "bic",
    "coef",
    "coefficients",
    "confint",
    "correlation",
    "correlation_of",
    "deviance",
    "df",
    "family_parameters",
    "fixef",
    "implied",
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

    Rows and columns as in :meth:`dgmm.Fit.var_corr`; name1 and name2 carry the outcome,
    ``y:(Intercept)``, a residual is ``sigma_y``, and a correlation of residuals ``rescor_z.y``.
    """
    found = variance_parameters.var_corr(view(fit, 0))
    own = found[found["group"] != "Residual"]
    return pd.concat([own, _residuals(fit)])


def _residuals(fit: FittedOutcomes) -> pd.DataFrame:
    """Residual standard deviations of all outcomes that have one, and correlations on a row."""
    done = fit.estimate
    spreads = [one for one in done.model.outcomes if one.one_number("log_sigma") is not None]
    residual = done.model.residual
    pairs = [] if residual is None else residual.pairs

    def working(theta: Theta) -> torch.Tensor:
        """log sigma, then atanh of every correlation."""
        found = [theta[f"{one.key}extra"][one.one_number("log_sigma")] for one in spreads]
        if residual is not None:
            R = residual.correlation(theta)
            found += [ATANH.forward(R[r, c]) for r, c in pairs]
        return torch.stack(found) if found else torch.zeros(0, dtype=torch.float64)

    values = working(done.theta).detach()
    errors = [np.nan] * len(values)
    if fit.information is not None:
        covariance = uncertainty(done, fit.information).of(working).covariance
        errors = covariance.diagonal().sqrt().tolist()
    own = {one.name: float(v.exp()) for one, v in zip(spreads, values, strict=False)}
    rows: list[tuple[Any, ...]] = [
        ("Residual", "sd", name, None, sd, sd**2) for name, sd in own.items()
    ]
    index = [f"sigma_{name}" for name in own]
    for (r, c), value in zip(pairs, values[len(own) :].tanh().tolist(), strict=True):
        assert residual is not None
        one, two = residual.outcomes[c], residual.outcomes[r]
        together = value * own.get(one, np.nan) * own.get(two, np.nan)
        rows.append(("Residual", "cor", one, two, value, together))
        index.append(f"rescor_{two}.{one}")
    columns = ["group", "kind", "name1", "name2", "sdcor", "vcov"]
    return pd.DataFrame(rows, columns=columns, index=index).assign(se_working=errors)


def correlation(fit: FittedOutcomes) -> pd.DataFrame:
    """The correlation matrix of all random effects; effects without correlation have zeros."""
    return correlation_of(var_corr(fit))


def correlation_of(table: pd.DataFrame) -> pd.DataFrame:
    """The correlation matrix in a table of variance components."""
    sd = table[(table["kind"] == "sd") & (table["group"] != "Residual")]
    names = sd["name1"].tolist()
    place = {name: j for j, name in enumerate(names)}
    matrix = np.eye(len(names))
    own = (table["kind"] == "cor") & (table["group"] != "Residual")
    rows = table.loc[own, ["name1", "name2", "sdcor"]]
    for one, two, value in rows.itertuples(index=False, name=None):
        matrix[place[one], place[two]] = matrix[place[two], place[one]] = value
    return pd.DataFrame(matrix, index=names, columns=names)


def sigma(fit: FittedOutcomes) -> pd.Series:
    """Residual standard deviation of every outcome, missing where its family has none."""
    values = {name: variance_parameters.sigma(view(fit, o)) for o, name in enumerate(fit.names)}
    return pd.Series(values, name="sigma")


def confint(fit: FittedOutcomes, level: float = 0.95, *, method: str = "wald") -> pd.DataFrame:
    """Wald intervals of all parameters: coefficients by outcome, then variance components.

    Intervals are made on the scale of the logarithm of a standard deviation and of atanh of a
    correlation.

    Raises:
        ValueError: another method than "wald".
    """
    if method != "wald":
        raise ValueError(
            f"method={method!r} is for models of one outcome; joint models have 'wald'. For a "
            "parametric bootstrap call fit.refit() on every frame of fit.simulate()"
        )
    beta, sd = fixef(fit), _residuals(fit)
    ends = intervals(beta.to_numpy(), std_errors(fit).to_numpy(), level)
    first = view(fit, 0).confint(level=level)
    names = list(first)
    tables: dict[str, pd.DataFrame] = {}
    for outcome in fit.estimate.model.outcomes:
        own = beta.index.get_level_values("outcome") == outcome.name
        table = pd.DataFrame(ends[own], index=beta[outcome.name].index, columns=names)
        residual = sd[(sd["name1"] == outcome.name) & (sd["kind"] == "sd")]
        if len(residual):
            error = residual["se_working"].to_numpy()
            both = np.exp(intervals(np.log(residual["sdcor"].to_numpy()), error, level))
            table = pd.concat([table, pd.DataFrame(both, index=["sigma"], columns=names)])
        tables[outcome.name] = table
    random = first.drop(index=[*beta[fit.names[0]].index])
    tables["random effects"] = random[["|" in name for name in random.index]]
    correlated = sd[sd["kind"] == "cor"]
    if len(correlated):
        centre = np.arctanh(correlated["sdcor"].to_numpy())
        both = np.tanh(intervals(centre, correlated["se_working"].to_numpy(), level))
        tables["residuals"] = pd.DataFrame(both, index=correlated.index, columns=names)
    return pd.concat(tables, names=["outcome", "parameter"])


def ranef(fit: FittedOutcomes, *, cond_var: bool = False) -> pd.DataFrame:
    """E(b | y) per subject given its outcomes of all kinds, columns ``y:(Intercept)``."""
    found: pd.DataFrame = of_subjects.ranef(view(fit, 0), cond_var=cond_var)
    return found


def coef(fit: FittedOutcomes) -> dict[str, pd.DataFrame]:
    """Fixed plus random effects of every subject, a table per outcome."""
    effects, tables = ranef(fit), {}
    for o, outcome in enumerate(fit.estimate.model.outcomes):
        beta = fixef(fit)[outcome.name]
        table = pd.DataFrame(
            np.tile(beta.to_numpy(), (len(effects), 1)), index=effects.index, columns=beta.index
        )
        for column, name, factor in _effects_of(fit, o):
            table[name] = table.get(name, 0.0) + factor * effects.iloc[:, column]
        tables[outcome.name] = table
    return tables


def _effects_of(fit: FittedOutcomes, o: int) -> list[tuple[int, str, float]]:
    """Columns of ranef() that enter an outcome, the coefficients they add to, and times what."""
    model, theta = fit.estimate.model, fit.estimate.theta
    own, found, first = model.outcomes[o].name, list[tuple[int, str, float]](), 0
    for i, (latent, entries) in enumerate(zip(model.latents, model.entries, strict=True), 1):
        if any(entry.outcome == o for entry in entries):
            factor = latent.factor_in(part(theta, f"latent{i}."), own)
            columns = range(len(latent.names))[columns_of(latent.places, own)]
            if latent.neural:  # its effects are no coefficients
                columns = range(0)
            plain = [name.partition(":")[2] for name in latent.names]
            found += [(first + j, plain[j], factor) for j in columns]
        first += latent.dim if latent.neural else len(latent.names)
    return found


def implied(fit: FittedOutcomes, draws: int = 4096) -> pd.DataFrame:
    """What the random part of every outcome is at the middle of its times.

    SD and correlations of mu2_k(b, t_k) over b ~ N(0, I), networks included: a row per outcome with
    its time, Std.Dev., and a column per outcome of correlations.
    """
    done = fit.estimate
    b = sobol_normal(done.model.k, draws, seed=11)[:, None, :]
    times, values = list[float](), list[np.ndarray]()
    with torch.no_grad():
        ready = done.model.prepare(done.theta)
        for o, panel in enumerate(done.panel.panels):
            time = panel.rows.time
            middle = (time - 0.5 * (time.min() + time.max())).abs().argmin()
            rows = panel.rows.take(middle.reshape(1, 1))
            values.append(done.model.mu2(ready, b, rows, outcome=o)[:, 0, 0].numpy())
            times.append(float(time[middle]))
    S = np.atleast_2d(np.cov(np.array(values)))
    sd = np.sqrt(np.diag(S))
    with np.errstate(invalid="ignore"):
        correlation = pd.DataFrame(S / np.outer(sd, sd), index=fit.names, columns=fit.names)
    return pd.concat(
        [pd.DataFrame({"time": times, "Std.Dev.": sd}, index=fit.names), correlation], axis=1
    )


# -- the likelihood --------------------------------------------------------------------------------


def nobs(fit: FittedOutcomes) -> int:
    """Number of observed outcomes of all kinds."""
    return sum(int(panel.observed.sum()) for panel in fit.estimate.panel.panels)


def n_groups(fit: FittedOutcomes) -> int:
    """Number of subjects with an outcome of any kind."""
    counts = [panel.count for panel in fit.estimate.observed.panels]
    return int((torch.stack(counts).sum(0) > 0).sum())


def df(fit: FittedOutcomes) -> float:
    """Number of parameters; effective ones with networks, missing after se=None."""
    if not fit.estimate.model.linear:
        return float("nan") if fit.information is None else fit.information.effective["total"]
    return float(reported_packing(fit.estimate.model).size)


def loglik(fit: FittedOutcomes) -> LogLik:
    """Marginal log-likelihood of all outcomes with its numerical error."""
    done = fit.estimate
    of = done.likelihood
    return LogLik(
        done.log_likelihood, done.mc_error, df(fit), nobs(fit), of.word, of.sampled, of.bound
    )


def deviance(fit: FittedOutcomes) -> float:
    """-2 log-likelihood."""
    return -2 * fit.estimate.log_likelihood


def aic(fit: FittedOutcomes) -> float:
    """-2 l + 2 df."""
    check_maximum(view(fit, 0), "aic()", COMPARE)
    return deviance(fit) + 2 * df(fit)


def bic(fit: FittedOutcomes) -> float:
    """-2 l + log(n) df, n the number of observed outcomes."""
    check_maximum(view(fit, 0), "bic()", COMPARE)
    return deviance(fit) + float(np.log(nobs(fit))) * df(fit)
