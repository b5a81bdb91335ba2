"""Latent structures that several outcomes have in common, and no word of a formula makes alone."""

from dgmm.latent.several.factors import Factors
from dgmm.latent.several.joined import Joined
from dgmm.latent.several.loaded import Loaded

__all__ = ["Factors", "Joined", "Loaded"]
