"""The tables of a summary."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from dgmm.inference.criteria import aic, bic, deviance, df, df_residual, groups_seen, nobs
from dgmm.inference.fixed_effects import coefficient_cells, coefficients, moments_of
from dgmm.inference.posterior import posterior_table
from dgmm.inference.small_samples import SmallSamples
from dgmm.inference.variance_parameters import (
    component_cells,
    family_parameters,
    part_coefficients,
    sigma,
    var_corr,
)
from dgmm.record import Fitted, chains_of
from dgmm.report.layout import count
from dgmm.runtime.native import as_given
from dgmm.runtime.result_table import Cells, ResultTable

__all__ = ["Tables", "fit_statistics", "glance", "tables_of"]


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables of a summary, made when they are asked for: a report prints their cells."""

    fit: Fitted
    df: str | None  # of the coefficients
    moments: SmallSamples | None  # behind t tests of the coefficients

    @cached_property
    def fixed_cells(self) -> Cells | pd.DataFrame:
        """The cells of ``coefficients``."""
        if self.fit.sampled or self.moments is not None:
            return self.coefficients
        return coefficient_cells(self.fit)

    @cached_property
    def coefficients(self) -> pd.DataFrame:
        """Wald or t tests; posterior summaries of draws."""
        if self.fit.sampled:
            return self.posterior.iloc[: len(self.fit.estimate.model.names)]
        return coefficients(self.fit, self.df)

    @cached_property
    def random_cells(self) -> Cells | pd.DataFrame:
        """The cells of ``random_effects``."""
        return self.random_effects if self.fit.sampled else component_cells(self.fit)

    @cached_property
    def random_effects(self) -> pd.DataFrame:
        """Variance components."""
        return var_corr(self.fit)

    @cached_property
    def family_parameters(self) -> pd.DataFrame:
        """Further parameters of the family."""
        return family_parameters(self.fit)

    @cached_property
    def parts(self) -> dict[str, pd.DataFrame]:
        """Coefficients of zi= and dispersion=."""
        return part_coefficients(self.fit)

    @cached_property
    def told(self) -> dict[str, float]:
        """The cells of ``statistics``."""
        if self.fit.sampled:
            return dict(chain_statistics(self.fit, self.posterior))
        return statistics_of(self.fit)

    @property
    def statistics(self) -> pd.Series:
        """What says how a fit stands."""
        return pd.Series(self.told, name="")

    @cached_property
    def networks(self) -> pd.DataFrame:
        """A row per network."""
        return network_table(self.fit)

    @cached_property
    def posterior(self) -> pd.DataFrame:
        """Of method="gibbs", a row per scalar; else empty."""
        return posterior_table(self.fit) if self.fit.sampled else pd.DataFrame()


def tables_of(fit: Fitted, df: str | None) -> Tables:
    """All tables of a fit; ``df`` is that of the coefficients."""
    return Tables(fit, df, moments_of(fit, df))


def chain_statistics(fit: Fitted, posterior: pd.DataFrame) -> pd.Series:
    """Chains, draws and warm-up, the largest R-hat, the least effective sample sizes."""
    chains = chains_of(fit, "the report")
    values = {
        "chains": chains.chains,
        "draws": chains.draws,
        "warmup": chains.warmup,
        "R-hat": posterior["R-hat"].max(),
        "ESS bulk": posterior["ESS bulk"].min(),
        "ESS tail": posterior["ESS tail"].min(),
    }
    return pd.Series(values, name="")


def fit_statistics(fit: Fitted) -> pd.Series:
    """AIC, BIC, logLik with its error, deviance, df.resid."""
    return pd.Series(statistics_of(fit), name="")


def statistics_of(fit: Fitted) -> dict[str, float]:
    """The same by name."""
    done = fit.estimate
    if done.course is not None:
        assert done.elbo is not None
        return {
            "ELBO": done.elbo,
            "importance-weighted": done.log_likelihood,
            "particles": done.course.particles,
        }
    name = "logLik" if done.method != "reml" else "REML logLik"
    return {
        "AIC": aic(fit),
        "BIC": bic(fit),
        name: done.log_likelihood,
        "deviance": deviance(fit),
        "df": df(fit),
        "df.resid": df_residual(fit),
    }


def glance(fit: Fitted) -> Any:
    """One row that says how a fit stands, for tables of many fits.

    Returns:
        A frame with one row, of the library of the data: ``nobs``, ``groups`` (subjects, or levels
        of the first factor), ``df``, ``logLik`` and its ``mc_error``, ``AIC``, ``BIC``,
        ``deviance``, ``df.residual``, ``sigma`` (missing where dispersion= models it), ``method``,
        ``likelihood``, ``converged``; ``decrement`` (Newton
        decrement, in standard errors) and, where the maximum was found by Monte Carlo,
        ``node_error``: how far a linear coefficient would move under other draws, at most, in
        standard errors; ``held_out`` and ``held_out_error``: log score per subject of subjects
        left out, less that of the nested classical model, and its standard error (missing without
        networks).
    """
    done, held = fit.estimate, fit.estimate.held_out
    no_maximum = done.sampled or done.likelihood.bound
    values = {
        "nobs": nobs(fit),
        "groups": next(seen for seen, _ in groups_seen(fit).values()),
        "df": df(fit),
        "logLik": done.log_likelihood,
        "mc_error": done.mc_error,
        "AIC": None if no_maximum else aic(fit),
        "BIC": None if no_maximum else bic(fit),
        "deviance": deviance(fit),
        "df.residual": df_residual(fit),
        "sigma": sigma(fit),
        "method": done.method,
        "likelihood": done.likelihood.word,
        "converged": done.converged,
        "decrement": done.decrement,
        "node_error": None if done.node_error is None else float(done.node_error.abs().max()),
        "held_out": None if held is None else held.difference,
        "held_out_error": None if held is None else held.standard_error,
    }
    return as_given(ResultTable([values]), fit.memory.frame)


def network_table(fit: Fitted) -> pd.DataFrame:
    """One row per network: where it stands, its inputs and size, penalty and effective df."""
    model, rows = fit.estimate.model, []
    effective = fit.information.effective if fit.information is not None else {}
    for outcome in model.outcomes:
        of = f"{outcome.name}: " if len(model.outcomes) > 1 else ""
        for i, net in enumerate(outcome.networks, 1):
            size, layers = count(net.shapes()), "-".join(str(s) for s in net.network.sizes)
            inputs = ", ".join(net.names)
            edf = effective.get(f"{outcome.key}dnn{i}")
            rows.append((of + net.label, "fixed", inputs, layers, size, edf, net.ridge))
    for i, latent in enumerate(model.latents, 1):
        if not latent.neural:
            continue
        size, ridge = count(latent.shapes()), model.latent_ridge[i - 1]
        edf = effective.get(f"latent{i}")
        rows.append((latent.label, "random", "b", latent.layers(), size, edf, ridge))
    columns = ["term", "part", "inputs", "layers", "weights", "edf", "ridge"]
    return pd.DataFrame(rows, columns=columns)
