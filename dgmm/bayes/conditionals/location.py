"""Thresholds and effects together: c -> c + d, gamma_jk -> gamma_jk + d, with t_k = 1 in all rows.

P(y <= k) = F(c_k - eta) is the same along this path, so that only the priors decide how far it
goes, c_1 ~ N(a, s^2) and gamma_j ~ N(0, D):

    d ~ N(r / P, 1 / P),   P = s^-2 + m (D^-1)_kk,   r = -(c_1 - a) / s^2 - sum_j (D^-1 gamma_j)_k

Thresholds take the place of the intercept. Given the effects they move as far as the outcomes
leave them; this is what hierarchical centring does for an intercept.

Liu and Sabatti (2000), Biometrika 87, 353-369.
"""

from __future__ import annotations

import numpy as np

from dgmm.mcmc import Streams

__all__ = ["draw_location"]


def draw_location(
    gamma: np.ndarray,
    precision: np.ndarray,
    k: int,
    gap: np.ndarray,
    sd: float,
    streams: Streams,
) -> np.ndarray:
    """The distance d (C,).

    gamma: (K, C, m). precision: D^-1 (K, K, C), k the effect whose column is one. gap: c_1 less its
    prior mean (C,), sd its prior standard deviation.
    """
    P = sd**-2 + gamma.shape[-1] * precision[k, k]
    r = -gap / sd**2 - np.einsum("ac,ac->c", precision[k], gamma.sum(-1))
    found: np.ndarray = r / P + streams.normal(1)[:, 0] / np.sqrt(P)
    return found
