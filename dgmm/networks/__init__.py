"""Networks as pure functions of named weights."""

from dgmm.networks.dense import ACTIVATIONS, Dense, Sweep, Weights
from dgmm.networks.fixed import FixedNetwork, Reference
from dgmm.networks.gated import Gated

__all__ = ["ACTIVATIONS", "Dense", "FixedNetwork", "Gated", "Reference", "Sweep", "Weights"]
