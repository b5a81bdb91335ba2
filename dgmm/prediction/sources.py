"""Which source a fit has: asked here, once."""

from __future__ import annotations

from dgmm.estimate import Estimate
from dgmm.prediction.at_estimate import AtEstimate
from dgmm.prediction.over_draws import OverDraws
from dgmm.prediction.source import Source

__all__ = ["source_of"]


def source_of(done: Estimate) -> Source:
    """The draws of a sampled posterior, or the estimate."""
    return AtEstimate(done) if done.chains is None else OverDraws(done, done.chains)
