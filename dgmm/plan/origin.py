"""Thresholds stand at the origin of the covariates, which must not lie far outside of the data."""

from __future__ import annotations

import numpy as np

from dgmm.design import Design
from dgmm.families import Family

__all__ = ["check_origin"]

FARTHEST = 3e5
"""Standard deviations from the mean of a covariate to zero: its square is lost in 16 digits."""


def check_origin(design: Design, family: Family) -> None:
    """Refuse covariates that lie so far from zero that thresholds at zero are not known.

    Raises:
        ValueError: a column whose mean is more than FARTHEST standard deviations from zero.
    """
    if family.intercept:  # it makes the columns orthogonal to itself
        return
    X = design.fixed.matrix[design.observed]
    distance = np.abs(X.mean(0)) / np.maximum(X.std(0), np.finfo(float).tiny)
    for name, far in zip(design.fixed.names, distance, strict=True):
        if far > FARTHEST:
            raise ValueError(
                f"the thresholds of family {family.name!r} stand where `{name}` is zero, which is "
                f"{far:.2g} standard deviations away from the data: no number holds that. Centre "
                f"it, as in center({name})"
            )
