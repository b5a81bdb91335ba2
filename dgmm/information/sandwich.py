"""The cluster-robust covariance, H^-1 sum_i (s_i - s)(s_i - s)' H^-1, s the mean score.

The mean is zero at a maximum; under a ridge it is kappa w / n.
"""

from __future__ import annotations

import numpy as np

from dgmm.information.records import reported_packing
from dgmm.likelihood import Point

__all__ = ["reported_scores", "sandwich"]


def sandwich(vcov: np.ndarray, scores: np.ndarray, held: np.ndarray) -> np.ndarray:
    """See the module: over the free parameters, ``scores`` (n, P)."""
    scores = scores[:, ~held]
    scores = scores - scores.mean(0)
    free = np.ix_(~held, ~held)
    robust = np.full_like(vcov, np.nan)
    robust[free] = vcov[free] @ (scores.T @ scores) @ vcov[free]
    return robust


def reported_scores(at: Point, seed: int, draws: int = 1024) -> np.ndarray:
    """Gradients of every l_i in the reported parameters, (n, P_r)."""
    likelihood = at.likelihood.by(seed=seed, hessian_draws=draws)
    scores: np.ndarray = likelihood.scores(at.theta, reported_packing(at.model)).numpy()
    return scores
