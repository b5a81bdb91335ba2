"""The statistical model: its joint density, how it is built, draws from it."""

from dgmm.model.density import (
    START_RIDGE,
    FixedNetwork,
    Model,
    PartPredictor,
    Reference,
    build_model,
    log_prior,
    orthonormal_basis,
)

__all__ = [
    "START_RIDGE",
    "FixedNetwork",
    "Model",
    "PartPredictor",
    "Reference",
    "build_model",
    "log_prior",
    "orthonormal_basis",
]
