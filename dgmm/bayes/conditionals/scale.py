"""Effects and their variance together: gamma_k -> c gamma_k, D -> S D S with S_kk = c.

p(gamma | D) is the same along this path, so that a small variance, which its effects hold fast when
each is drawn given the other, moves as far as the outcomes allow. With s_1 = sum_j gamma_jk t_k'r_j
and s_2 = sum_j gamma_jk^2 t_k't_k the target is

    p(c) ~ exp[{(c - 1) s_1 - (c - 1)^2 s_2 / 2} / sigma^2] p(S D S) |c|^q;

the first factor proposes, the others accept. q is the size of the block of D that holds k.

Liu and Sabatti (2000), Biometrika 87, 353-369; Yu and Meng (2011), J. Computational and Graphical
Statistics 20, 531-570.
"""

from __future__ import annotations

import numpy as np

from dgmm.bayes.priors import CovariancePrior
from dgmm.mcmc import Streams

__all__ = ["log_ratio_of_scale", "propose_scale"]

LEAST = 1e-8
"""A scale nearer to zero is never accepted: nothing would come back from there."""


def propose_scale(
    s1: np.ndarray,
    s2: np.ndarray,
    sigma2: np.ndarray,
    precision: np.ndarray,
    k: int,
    prior: CovariancePrior,
    streams: Streams,
) -> np.ndarray:
    """The factors c (C,), 1 where the proposal was not accepted.

    s1, s2, sigma2: (C,). precision: D^-1 of the block (q, q, C), k the place of the effect in it.
    """
    noise, uniform = streams.normal(1)[:, 0], streams.uniform(1)[:, 0]
    c = 1 + s1 / s2 + np.sqrt(sigma2 / s2) * noise
    away = np.abs(c) > LEAST
    c = np.where(away, c, 1.0)
    accepted = np.log(uniform) < log_ratio_of_scale(precision, k, c, prior)
    return np.where(accepted & away, c, 1.0)


def log_ratio_of_scale(
    precision: np.ndarray, k: int, c: np.ndarray, prior: CovariancePrior
) -> np.ndarray:
    """log{p(S D S) |c|^q / p(D)}, (C,)."""
    found: np.ndarray = prior.log_ratio(precision, k, c) + len(precision) * np.log(np.abs(c))
    return found
