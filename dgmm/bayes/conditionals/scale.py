"""An effect and its variance together: gamma_j -> A gamma_j, D -> A D A', A = I + (c - 1) v e_k'.

With v_k = 1 this multiplies gamma_jk by c, while the effects beside it move along v. p(gamma | D)
is the same on this path, so that a small variance, which its effects hold fast when each is drawn
given the other, moves as far as the outcomes allow. With s_1 = sum_j gamma_jk v'T_j'r_j and
s_2 = sum_j gamma_jk^2 v'T_j'T_j v the target is

    p(c) ~ exp[{(c - 1) s_1 - (c - 1)^2 s_2 / 2} / sigma^2] p(A D A') |c|^q;

the first factor proposes, the others accept. q is the size of the block of D. v is where the
outcomes say least, the minimum of v'G v with G = sum_j T_j'T_j: column k of G^-1 over its diagonal.
A slope moves with the value at the mean time held.

Liu and Sabatti (2000), Biometrika 87, 353-369; Yu and Meng (2011), J. Computational and Graphical
Statistics 20, 531-570.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dgmm.bayes.priors import CovariancePrior
from dgmm.mcmc import Streams

__all__ = ["Direction", "directions", "log_ratio_of_scale", "propose_scale", "scaled"]

LEAST = 1e-8
"""A scale nearer to zero is never accepted: nothing would come back from there."""

RIDGE = 1e-10
"""Added to the correlations of the columns, which may be collinear."""


class Direction(NamedTuple):
    """Effect k of a block is multiplied, by moving all of them along v."""

    k: int
    v: np.ndarray  # (q,), one at k


def directions(G: np.ndarray) -> tuple[Direction, ...]:
    """One for every effect of a block, from sum_j T_j'T_j (q, q)."""
    size = np.sqrt(np.diag(G))
    size = np.where(size > 0, size, 1.0)
    inverse = np.linalg.inv(G / size / size[:, None] + RIDGE * np.eye(len(G)))
    inverse = inverse / size / size[:, None]
    return tuple(Direction(k, inverse[:, k] / inverse[k, k]) for k in range(len(G)))


def propose_scale(
    s1: np.ndarray,
    s2: np.ndarray,
    sigma2: np.ndarray,
    precision: np.ndarray,
    one: Direction,
    prior: CovariancePrior,
    streams: Streams,
) -> np.ndarray:
    """The factors c (C,), 1 where the proposal was not accepted.

    s1, s2, sigma2: (C,). precision: D^-1 of the block (q, q, C).
    """
    noise, uniform = streams.normal(1)[:, 0], streams.uniform(1)[:, 0]
    c = 1 + s1 / s2 + np.sqrt(sigma2 / s2) * noise
    away = np.abs(c) > LEAST
    c = np.where(away, c, 1.0)
    accepted = np.log(uniform) < log_ratio_of_scale(precision, one, c, prior)
    return np.where(accepted & away, c, 1.0)


def log_ratio_of_scale(
    precision: np.ndarray, one: Direction, c: np.ndarray, prior: CovariancePrior
) -> np.ndarray:
    """log{p(A D A') |c|^q / p(D)}, (C,)."""
    ratio = prior.log_density(scaled(precision, one, c)) - prior.log_density(precision)
    found: np.ndarray = ratio + len(precision) * np.log(np.abs(c))
    return found


def scaled(precision: np.ndarray, one: Direction, c: np.ndarray) -> np.ndarray:
    """(A D A')^-1 from D^-1 (q, q, C)."""
    if len(precision) == 1:
        return precision / np.square(c)
    back = np.repeat(np.eye(len(precision))[:, :, None], len(c), axis=2)
    back[:, one.k] += one.v[:, None] * (1 / c - 1)
    found: np.ndarray = np.einsum("bac,bdc,dec->aec", back, precision, back)
    return found
