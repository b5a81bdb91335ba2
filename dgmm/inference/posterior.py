"""Scalars of a posterior: their draws, their summary, intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dgmm.bayes import drawn_from_prior
from dgmm.bayes.reported import covariances, reported_draws, reported_names
from dgmm.mcmc.diagnostics import diagnosed, hdi
from dgmm.record import Fitted, chains_of
from dgmm.runtime.probability import check_level

__all__ = [
    "Scalars",
    "covariance_means",
    "posterior_draws",
    "posterior_table",
    "prior_draws",
    "scalars",
]

QUANTILES = (0.025, 0.5, 0.975)


@dataclass(frozen=True)
class Scalars:
    """Draws of everything that is reported, on its natural scale, named as in confint()."""

    names: tuple[str, ...]
    values: np.ndarray  # (C, S, R)
    coefficients: int  # the first ones, of the fixed part

    def __getitem__(self, name: str) -> np.ndarray:
        """The draws of one, (C, S)."""
        found: np.ndarray = self.values[:, :, self.names.index(name)]
        return found

    @property
    def flat(self) -> np.ndarray:
        """(C S, R)."""
        return self.values.reshape(-1, self.values.shape[2])

    def table(self) -> pd.DataFrame:
        """Mean, SD, quantiles, R-hat, effective sample sizes and Monte Carlo error of each."""
        flat, rows = self.flat, []
        quantiles = np.quantile(flat, QUANTILES, axis=0)
        for j in range(len(self.names)):
            found = diagnosed(self.values[:, :, j])
            rows.append((flat[:, j].mean(), flat[:, j].std(ddof=1), *quantiles[:, j], *found))
        columns = [
            "Mean",
            "SD",
            *(f"{100 * one:g} %" for one in QUANTILES),
            "R-hat",
            "ESS bulk",
            "ESS tail",
            "MCSE",
        ]
        return pd.DataFrame(rows, index=list(self.names), columns=columns, dtype=float)

    def intervals(self, level: float, method: str) -> np.ndarray:
        """Equal-tailed ("quantile") or shortest ("hdi") intervals, (R, 2)."""
        check_level(level)
        if method == "hdi":
            return np.array([hdi(one, level) for one in self.flat.T]).reshape(-1, 2)
        tail = (1 - level) / 2
        found: np.ndarray = np.quantile(self.flat, [tail, 1 - tail], axis=0).T
        return found


def scalar_names(fit: Fitted) -> tuple[str, ...]:
    """The names of all reported scalars."""
    return tuple(reported_names(fit.estimate.model, fit.memory.groups))


def scalars(fit: Fitted) -> Scalars:
    """The draws of all reported scalars."""
    chains, model = chains_of(fit, "the posterior"), fit.estimate.model
    values = reported_draws(model, chains.flat).numpy()
    names = scalar_names(fit)
    shape = (chains.chains, chains.draws, len(names))
    return Scalars(names, values.reshape(shape), len(model.names))


def posterior_table(fit: Fitted) -> pd.DataFrame:
    """The summary of a posterior, a row per scalar.

    Returns:
        Mean, SD, quantiles, R-hat (rank-normalised, split), effective sample sizes of bulk and
        tails, and the Monte Carlo standard error of the mean.

    Raises:
        ValueError: the fit was not sampled.

    References:
        Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021), Bayesian Analysis 16, 667-718.
    """
    return scalars(fit).table()


def covariance_means(fit: Fitted) -> list[np.ndarray]:
    """Posterior means of D of every latent structure, (q, q)."""
    model, chains = fit.estimate.model, chains_of(fit, "the posterior")
    every = range(len(model.latents))
    return [covariances(model, chains.flat, i).mean(0).numpy() for i in every]


def posterior_draws(fit: Fitted) -> pd.DataFrame:
    """The draws of every reported scalar, a row per draw, indexed by chain and draw.

    Raises:
        ValueError: the fit was not sampled.
    """
    found = scalars(fit)
    C, S = found.values.shape[:2]
    index = pd.MultiIndex.from_product([range(1, C + 1), range(1, S + 1)], names=["chain", "draw"])
    return pd.DataFrame(found.flat, index=index, columns=list(found.names))


def prior_draws(fit: Fitted, draws: int = 1000, *, seed: int) -> pd.DataFrame:
    """Independent draws of every reported scalar from its prior, a row per draw.

    Columns are those of :func:`posterior_draws`, so that prior and posterior can be shown side by
    side.

    Args:
        fit: a fit by ``method="gibbs"``.
        draws: their number.
        seed: of the draws.

    Raises:
        ValueError: the fit was not sampled, or there are no draws.

    Example:
        >>> import dgmm
        >>> sleep = dgmm.datasets.load("sleepstudy")
        >>> told = dgmm.prior(beta=dgmm.normal([250, 10], [50, 5]))
        >>> fit = dgmm.mixed_model(
        ...     "Reaction ~ Days + (1 | Subject)", sleep, method="gibbs", prior=told
        ... )
        >>> fit.prior_draws(4000, seed=1)["Days"].quantile([0.1, 0.9]).round(0).to_list()
        [4.0, 16.0]
    """
    chains_of(fit, "prior_draws()")
    if draws < 1:
        raise ValueError(f"draws is a number of draws, at least 1, not {draws!r}")
    done, prior = fit.estimate, fit.request.sampling.prior
    flat = drawn_from_prior(done.model, done.panel, prior, draws, seed)
    values = reported_draws(done.model, flat).numpy()
    index = pd.RangeIndex(1, draws + 1, name="draw")
    return pd.DataFrame(values, index=index, columns=list(scalar_names(fit)))
