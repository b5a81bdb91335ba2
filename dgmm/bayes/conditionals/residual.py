"""sigma^2 | beta, u, y: the residual variance, a covariance of one number.

inverse-gamma   sigma^2 ~ IG(a + N/2, b + SSR/2),   SSR = sum (y - R beta - T u)^2
"""

from __future__ import annotations

import numpy as np

from dgmm.bayes.priors import CovariancePrior
from dgmm.mcmc import Streams

__all__ = ["draw_residual"]


def draw_residual(
    sigma2: np.ndarray, squares: np.ndarray, rows: int, prior: CovariancePrior, streams: Streams
) -> np.ndarray:
    """sigma^2 (C,) from the sum of squares (C,) over ``rows`` rows."""
    return prior.draw(1 / sigma2[None, None], squares[None, None], rows, streams)[0, 0]
