"""How a posterior is to be sampled."""

from __future__ import annotations

from dataclasses import dataclass, field

from dgmm.bayes.priors import Prior

__all__ = ["Sampling"]


@dataclass(frozen=True)
class Sampling:
    """Chains, draws kept of each, sweeps before them, and the priors."""

    chains: int = 4
    draws: int = 2000
    warmup: int = 500
    prior: Prior = field(default_factory=Prior)
