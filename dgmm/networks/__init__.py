"""Networks as pure functions of named weights."""

from dgmm.networks.dense import ACTIVATIONS, Dense, Sweep, Weights

__all__ = ["ACTIVATIONS", "Dense", "Sweep", "Weights"]
