"""Importance sampling of paths and random effects, the smoother as proposal.

Draws of u are from its distribution given Gaussian outcomes e with errors of variance 1 / W, those
of the mode (:mod:`dgmm.likelihood.state_modes`), by the simulation smoother, in antithetic pairs,

    l = log N(e; 0, S + W^-1) + log mean_m exp{log p(y | X beta + u_m) - log N(e; u_m, W^-1)}.

Of one subject an error is that of a mean over pairs; subjects are independent, so the variances of
their errors add up. After Durbin and Koopman (1997), Biometrika 84, 669-684.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.special import logsumexp

from dgmm.families.derivatives import row_derivatives
from dgmm.likelihood.state_modes import Mode, Rows, smooth, total_log_det
from dgmm.numerics.kalman import states
from dgmm.parameters import Theta

__all__ = ["Surplus", "drawn", "surplus"]

CELLS = 2_000_000
"""Rows times draws held at once."""


class Surplus(NamedTuple):
    """l of every series by draws, and its Monte Carlo standard error, (n,) each."""

    value: np.ndarray
    error: np.ndarray


def drawn(rows: Rows, mode: Mode, theta: Theta, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draws of u given e, (size, N)."""
    Lambda, system = rows.Lambda(theta).detach().numpy(), mode.smoothed.system
    d, N, k = len(system.A), len(mode.u), Lambda.shape[1]
    b = rng.standard_normal((k, size, rows.packed.series))[..., rows.packed.steps.series]
    z = states(system, rng.standard_normal((d, size, N)))
    u = np.einsum("an,ak,khn->hn", rows.T, Lambda, b) + np.einsum("dn,dhn->hn", system.c, z)
    seen = rows.packed.seen > 0
    noise = rng.standard_normal((size, N)) / np.sqrt(mode.W)
    missed = np.where(seen, mode.e - u - noise, 0.0)
    found: np.ndarray = u + smooth(rows, system, Lambda, missed).u
    return found


def surplus(rows: Rows, mode: Mode, theta: Theta, pairs: int, rng: np.random.Generator) -> Surplus:
    """l of every series by ``pairs`` antithetic pairs of draws."""
    fixed = [one.detach() for one in rows.predictors(theta)]
    seen, series, n = rows.packed.seen > 0, rows.packed.steps.series, rows.packed.series
    step, tables = max(1, CELLS // max(1, len(seen))), []
    for first in range(0, pairs, step):
        u = drawn(rows, mode, theta, min(step, pairs - first), rng)
        both = []
        for one in (u, 2 * mode.u - u):
            eta = fixed[0] + torch.from_numpy(one)
            others = [own.expand_as(eta) for own in fixed[1:]]
            value = row_derivatives(rows.model.family, rows.data, [eta, *others], [0], 1).value
            ratio = np.where(seen, value.numpy() + 0.5 * mode.W * (mode.e - one) ** 2, 0.0)
            both.append(np.stack([np.bincount(series, own, n) for own in ratio]))
        tables.append(logsumexp(both, axis=0) - np.log(2))
    log_weight = np.concatenate(tables)  # (pairs, n)
    mean = logsumexp(log_weight, axis=0) - np.log(pairs)
    spread = np.exp(log_weight - mean).std(0, ddof=1)
    known = total_log_det(mode, rows) + rows.per_series(mode.e * mode.smoothed.a[0])
    return Surplus(rows.constant - 0.5 * known + mean, spread / np.sqrt(pairs))
