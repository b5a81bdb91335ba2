"""p(y | b): what a model knows of one outcome."""

from dgmm.outcomes.longitudinal import Longitudinal, PartPredictor

__all__ = ["Longitudinal", "PartPredictor"]
