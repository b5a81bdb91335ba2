"""Records of a likelihood at some theta: values with errors, Hessians, moments of variances."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgmm.numerics.hessian import Curvature, curvature_of
from dgmm.parameters import Packing

__all__ = ["Compared", "Each", "Observed", "VarianceMoments"]


class Each(NamedTuple):
    """log p(y_i; theta) subject by subject, with numerical errors."""

    value: Tensor  # (n,)
    error: Tensor  # (n,) Monte Carlo s.e., change to a longer rule, 0 when exact, NaN unknown
    total_error: float  # of the sum


class Compared(NamedTuple):
    """An approximation of l at some theta beside one better evaluation there."""

    word: str  # of likelihood=, where that is the better one, else ""
    by: str  # in words
    difference: float  # the better value less the approximation
    error: float  # its Monte Carlo standard error, 0 for quadrature
    away: float  # of the better maximum, in standard errors; NaN where it is not known


class Observed(NamedTuple):
    """The Hessian of l in some parameters, and a sentence that says how it was made."""

    curvature: Curvature
    form: str

    @property
    def matrix(self) -> np.ndarray:
        """The Hessian, (P, P)."""
        return self.curvature.matrix

    @property
    def information(self) -> Tensor:
        """Minus the Hessian, (P, P)."""
        return -torch.from_numpy(self.matrix)

    def among(self, whole: Packing, packing: Packing) -> Observed:
        """The block of some parameters of ``whole``."""
        if tuple(whole.shapes) == tuple(packing.shapes):
            return self
        at = torch.cat([whole.positions([name]) for name in packing.shapes]).numpy()
        return self._replace(curvature=curvature_of(self.matrix[np.ix_(at, at)]))


class VarianceMoments(NamedTuple):
    """(sum X'V^-1 X)^-1 in the internal columns, and what the variances psi do to it."""

    vcov: np.ndarray  # (p, p)
    slopes: np.ndarray  # (v, p, p) d vcov / d psi
    information: np.ndarray  # (v, v) about psi, beta at its conditional maximum
