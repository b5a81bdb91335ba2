"""q(b | y): one amortised encoder per file; the word in ``encoder="sites"`` is its ``name``."""

from dgmm.encoders.base import Context, Encoder, Posterior, context
from dgmm.runtime.registry import lookup

__all__ = ["Context", "Encoder", "Posterior", "context", "find"]


def find(word: str) -> type[Encoder]:
    """The encoder class called by name."""
    return lookup("dgmm.encoders", Encoder, word, "encoder")
