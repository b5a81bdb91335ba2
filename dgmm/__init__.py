"""Deep generalized mixed models for longitudinal data, in the manner of R."""

__version__ = "0.1.0"
