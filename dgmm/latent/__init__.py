"""p(b) and mu2(b, T): one latent structure per file; the word left of the bar is the file."""

from dgmm.design import LatentBlock
from dgmm.latent.base import Latent
from dgmm.latent.normal import Normal
from dgmm.latent.warp import Warp
from dgmm.runtime.registry import lookup

__all__ = ["Latent", "Normal", "Warp", "build"]


def build(block: LatentBlock, unit: float) -> Latent:
    """The latent structure of one formula term."""
    return lookup("dgmm.latent", Latent, block.term.kind, "latent").build(block, unit)
