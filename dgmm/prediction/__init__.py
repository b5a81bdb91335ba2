"""Predictions for rows of the fit and of new data, random effects, log scores."""

from dgmm.prediction.new_rows import predict
from dgmm.prediction.of_fit import fitted, residuals, simulations
from dgmm.prediction.options import Wanted
from dgmm.prediction.random_effects import (
    boundary_names,
    factor_coefficients,
    factor_tables,
    random_effect_table,
    subject_coefficients,
)

__all__ = [
    "Wanted",
    "boundary_names",
    "factor_coefficients",
    "factor_tables",
    "fitted",
    "predict",
    "random_effect_table",
    "residuals",
    "simulations",
    "subject_coefficients",
]
