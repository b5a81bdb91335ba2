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
from dgmm.encoders.mixed import Mixed, MixedPosterior
from dgmm.encoders.particles import Learnt
from dgmm.encoders.potentials import Potentials
from dgmm.encoders.steps import Sequential, recursion_of
from dgmm.encoders.stepwise import Stepwise
from dgmm.model import Model
from dgmm.runtime.registry import lookup

__all__ = [
    "Amortised",
    "Approximation",
    "Context",
    "Encoder",
    "Learnt",
    "Mixed",
    "MixedPosterior",
    "Posterior",
    "Potentials",
    "Sampled",
    "Sequential",
    "Stepwise",
    "context",
    "find",
    "of_recursion",
]


def find(word: str) -> type[Encoder]:
    """The encoder class called by name."""
    return lookup("dgmm.encoders", Encoder, word, "encoder")


def of_recursion(model: Model) -> Sequential:
    """The encoder of a model with a recursion."""
    kind = Potentials if recursion_of(model).potentials else Stepwise
    return kind.of(model)
