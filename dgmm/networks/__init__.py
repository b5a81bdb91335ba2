"""Networks as pure functions of named weights."""

from dgmm.networks.dense import ACTIVATIONS, Dense, Sweep, Weights
from dgmm.networks.fixed import FixedNetwork, Reference

__all__ = ["ACTIVATIONS", "Dense", "FixedNetwork", "Reference", "Sweep", "Weights"]
