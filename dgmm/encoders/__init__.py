"""q(b | y): one amortised encoder per file; the word in ``encoder="sites"`` is its ``name``."""

from dgmm.encoders.base import (
    Amortised,
    Approximation,
    Context,
    Encoder,
    Posterior,
    Sampled,
    context,
)
from dgmm.encoders.particles import Learnt
from dgmm.encoders.stepwise import Stepwise
from dgmm.runtime.registry import lookup

__all__ = [
    "Amortised",
    "Approximation",
    "Context",
    "Encoder",
    "Learnt",
    "Posterior",
    "Sampled",
    "Stepwise",
    "context",
    "find",
]


def find(word: str) -> type[Encoder]:
    """The encoder class called by name."""
    return lookup("dgmm.encoders", Encoder, word, "encoder")
