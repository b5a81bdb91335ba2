"""p(y | b): what a model knows of one outcome."""

from dgmm.outcomes.longitudinal import Longitudinal, PartPredictor, standing
from dgmm.outcomes.residual import Residual, Standardised

__all__ = ["Longitudinal", "PartPredictor", "Residual", "Standardised", "standing"]
