"""Latent structures that several outcomes have in common, and no word of a formula makes alone."""

from dgmm.latent.several.loaded import Loaded

__all__ = ["Loaded"]
