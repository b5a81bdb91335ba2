"""Rows of the fit: fitted values, residuals, simulated outcomes."""

from __future__ import annotations

import numpy as np
import torch

from dgmm.estimate import Estimate
from dgmm.model.simulation import simulate_outcomes
from dgmm.prediction.moments import given_history, random_effects
from dgmm.prediction.options import Wanted

__all__ = ["fitted", "residuals", "simulations"]


def fitted(done: Estimate, scale: str, seed: int) -> np.ndarray:
    """E{h(eta) | y} for every planned row, (N,)."""
    Wanted("subject", scale, None, 0.95, "population", 1)
    if scale == "categories":
        raise ValueError(
            "fitted() gives one value a row; probabilities of categories are "
            "predict(scale='categories')"
        )
    found = given_history(done, done.theta, done.kept, done.panel, scale, seed)
    return found.mean.numpy()


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
    history = done.model.history(done.panel)
    effects = random_effects(done, history, seed).mean if condition else None
    draws = [
        simulate_outcomes(done.model, done.theta, done.panel, generator, effects)
        for _ in range(nsim)
    ]
    return torch.stack(draws, dim=1).numpy()
