"""Contract of the approximations by which a Wald test allows for estimated variances."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

__all__ = ["Denominator", "SmallSamples"]


class Denominator(NamedTuple):
    """F factor ~ F(rank, df) for the Wald statistic divided by its rank, F."""

    df: float
    factor: float


class SmallSamples(ABC):
    """The covariance of the coefficients for tests, (p, p), and degrees of freedom."""

    covariance: np.ndarray  # (p, p), user's columns
    words: str  # whose degrees of freedom
    form: str  # of the standard errors, for the summary

    @abstractmethod
    def df(self, contrast: np.ndarray) -> float:
        """Degrees of freedom of the t test of one contrast (p,)."""

    @abstractmethod
    def joint(self, L: np.ndarray) -> Denominator:
        """Of the F test of L beta = 0, L (r, p) of any rank."""
