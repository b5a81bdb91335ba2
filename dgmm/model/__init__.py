"""The statistical model: its joint density, how it is built, draws from it."""

from dgmm.model.build import START_RIDGE, build_model, orthonormal_basis
from dgmm.model.candidates import candidates
from dgmm.model.density import Entry, Fixed, Model, log_prior

__all__ = [
    "START_RIDGE",
    "Entry",
    "Fixed",
    "Model",
    "build_model",
    "candidates",
    "log_prior",
    "orthonormal_basis",
]
