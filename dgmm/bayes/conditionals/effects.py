"""u_j | beta, D, sigma^2, y: the effects of the levels of one factor.

    u_j ~ N(V_j {D^-1 E_j beta + T_j'r_j / sigma^2}, V_j),   V_j = (D^-1 + T_j'T_j / sigma^2)^-1

r_j is y less everything but u_j. With E_j beta = theta and T = X these are the conditionals of a
hierarchical regression in Hoff (2009), section 11.2.
"""

from __future__ import annotations

import numpy as np

from dgmm.mcmc import Streams, draw_normal

__all__ = ["draw_effects"]


def draw_effects(
    G: np.ndarray,
    rest: np.ndarray,
    mean: np.ndarray | None,
    precision: np.ndarray,
    sigma2: np.ndarray,
    streams: Streams,
) -> np.ndarray:
    """Draws (K, C, m).

    G: T_j'T_j (K, K, m). rest: T_j'r_j (K, C, m). mean: E_j beta (K, C, m), None where nothing is
    centred. precision: D^-1 (K, K, C). sigma2: (C,).
    """
    K, _, m = rest.shape
    P = precision[:, :, :, None] + G[:, :, None, :] / sigma2[:, None]
    shift = rest / sigma2[:, None]
    if mean is not None:
        shift = shift + np.einsum("abc,bcm->acm", precision, mean)
    noise = streams.normal(K, m).swapaxes(0, 1)
    return draw_normal(P, shift, noise)
