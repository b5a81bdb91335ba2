"""Rows of the fit: fitted values, residuals, simulated outcomes."""

from __future__ import annotations

import numpy as np
import torch

from dgmm.bayes import Prior, drawn_from_prior
from dgmm.estimate import Estimate
from dgmm.model.simulation import simulate_outcomes
from dgmm.prediction.options import Wanted
from dgmm.prediction.sources import source_of

__all__ = ["fitted", "from_prior", "residuals", "simulations"]


def fitted(done: Estimate, scale: str, seed: int) -> np.ndarray:
    """E{h(eta) | y} for every planned row, (N,)."""
    Wanted("subject", scale, None, 0.95, "population", 1)
    if scale == "categories":
        raise ValueError(
            "fitted() gives one value a row; probabilities of categories are "
            "predict(scale='categories')"
        )
    return source_of(done).fitted(scale, seed).numpy()


def residuals(done: Estimate, type: str, seed: int) -> np.ndarray:
    """Response or Pearson residuals, NaN where the outcome is missing."""
    if type not in ("response", "pearson"):
        raise ValueError(f"type={type!r} is not one of response, pearson")
    if type == "pearson" and not done.model.family.noise:
        raise ValueError(
            "type='pearson' divides by the SD of the noise, of which dispersion='~ 0' leaves none; "
            "take type='response', or y less predict(type='mean_subject')"
        )
    data = done.panel.rows.data
    mu = torch.from_numpy(fitted(done, "response", seed))
    raw = done.model.family.response(data) - mu
    if type == "response":
        return raw.numpy()
    eta = torch.from_numpy(fitted(done, "link", seed))
    extra = done.model.extra(done.theta, done.panel.rows)
    variance = done.model.family.variance(eta, data, extra)
    return (raw / variance.sqrt()).numpy()


def simulations(done: Estimate, nsim: int, seed: int, condition: bool) -> np.ndarray:
    """Outcomes for every planned row, (N, nsim)."""
    if nsim < 1:
        raise ValueError(f"nsim is a number of draws, at least 1, not {nsim!r}")
    generator = torch.Generator().manual_seed(seed)
    return source_of(done).simulations(nsim, generator, seed, condition).numpy()


def from_prior(done: Estimate, prior: Prior, nsim: int, seed: int) -> np.ndarray:
    """Outcomes for every planned row under draws of theta from the prior, (N, nsim)."""
    if nsim < 1:
        raise ValueError(f"nsim is a number of draws, at least 1, not {nsim!r}")
    generator, unpack = torch.Generator().manual_seed(seed), done.model.packing.unpack
    draws = [
        simulate_outcomes(done.model, unpack(row), done.panel, generator)
        for row in drawn_from_prior(done.model, done.panel, prior, nsim, seed)
    ]
    return torch.stack(draws, dim=1).numpy()
