"""beta | u, D, sigma^2, y: the linear coefficients, in the mean of effects or outside.

    precision  P = L_0^-1 + R'R / sigma^2 + sum_f sum_j E_fj'D_f^-1 E_fj
    beta ~ N(P^-1 {L_0^-1 mu_0 + R'(y - T u) / sigma^2 + sum_f sum_j E_fj'D_f^-1 u_fj}, P^-1)

R is what of the columns is outside, E_fj beta is the mean of the effects u_fj.
"""

from __future__ import annotations

import numpy as np

from dgmm.mcmc import Streams, draw_normal

__all__ = ["draw_coefficients", "of_effects"]


def of_effects(
    E: np.ndarray, EE: np.ndarray, u: np.ndarray, precision: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """sum_j E_j'D^-1 E_j (p, p, C) and sum_j E_j'D^-1 u_j (p, C) of one factor.

    E: (K, p, m). EE: sum_j E_j[a, l] E_j[b, r], (K, p, K, p). u: (K, C, m). precision: (K, K, C).
    """
    K, p, m = E.shape
    C = u.shape[1]
    inner = np.tensordot(EE, precision, axes=([0, 2], [0, 1]))  # (p, p, C)
    both = (E.reshape(K * p, m) @ u.reshape(K * C, m).T).reshape(K, p, K, C)
    return inner, np.einsum("apbc,abc->pc", both, precision)


def draw_coefficients(P: np.ndarray, shift: np.ndarray, streams: Streams) -> np.ndarray:
    """beta (p, C) from its precision (p, p, C) and P mean (p, C)."""
    return draw_normal(P, shift, streams.normal(len(P)).T)
