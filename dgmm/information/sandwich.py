"""The cluster-robust covariance, H^-1 sum_i (s_i - s)(s_i - s)' H^-1, s the mean score.

The mean is zero at a maximum; under a ridge it is kappa w / n.
"""

from __future__ import annotations

import numpy as np

from dgmm.estimate import Estimate
from dgmm.estimate.climb import likelihood_at
from dgmm.information.observed import freeze_at
from dgmm.information.records import reported_packing
from dgmm.likelihood import Importance

__all__ = ["reported_scores", "sandwich"]


def sandwich(vcov: np.ndarray, scores: np.ndarray, held: np.ndarray) -> np.ndarray:
    """See the module: over the free parameters, ``scores`` (n, P)."""
    scores = scores[:, ~held]
    scores = scores - scores.mean(0)
    free = np.ix_(~held, ~held)
    robust = np.full_like(vcov, np.nan)
    robust[free] = vcov[free] @ (scores.T @ scores) @ vcov[free]
    return robust


def reported_scores(done: Estimate, seed: int) -> np.ndarray:
    """Gradients of every l_i in the reported parameters, (n, P_r)."""
    if done.model.by_columns and not isinstance(done.rule, Importance | None):
        engine = likelihood_at(done.model, done.observed, done.rule)
        x = engine.vector(done.theta)
        found = engine.value_and_gradient(x, scores=True).scores
        assert found is not None
        return found * engine.working_slope(x)
    frozen = freeze_at(done, done.theta, done.observed, seed, 1024)
    position = done.model.packing.positions(reported_packing(done.model).shapes)
    return frozen.scores(done.theta)[:, position].numpy()
