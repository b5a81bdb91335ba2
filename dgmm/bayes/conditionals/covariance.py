"""D | gamma: the covariance of the effects of one block, by its prior.

inverse-Wishart   D ~ IW(df + m, S + sum gamma_j gamma_j')
half-t            a_k ~ IG{(nu + q)/2, nu (D^-1)_kk + 1 / A_k^2}
                  D ~ IW{nu + q - 1 + m, 2 nu diag(1 / a) + sum gamma_j gamma_j'}
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dgmm.bayes.priors import CovariancePrior
from dgmm.mcmc import Streams

__all__ = ["draw_covariance"]


def draw_covariance(
    precision: np.ndarray,
    gamma: np.ndarray,
    blocks: Sequence[tuple[tuple[int, ...], CovariancePrior]],
    streams: Streams,
) -> np.ndarray:
    """D (K, K, C) of one factor, block by block, given effects gamma (K, C, m) and D^-1 before."""
    scatter = np.einsum("acm,bcm->abc", gamma, gamma)
    if len(blocks) == 1:
        return blocks[0][1].draw(precision, scatter, gamma.shape[-1], streams)
    out = np.zeros_like(precision)
    for columns, prior in blocks:
        at = np.ix_(columns, columns)
        out[at] = prior.draw(precision[at], scatter[at], gamma.shape[-1], streams)
    return out
