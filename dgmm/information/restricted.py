"""The information of a REML fit: GLS form for beta, the restricted likelihood for the variances.

Under the restricted likelihood beta is integrated out, so the two blocks are

    var(beta-hat) = (sum X'V^-1 X)^-1,   var(psi-hat) = {-d^2 l_R / d psi d psi'}^-1.
"""

from __future__ import annotations

import numpy as np
import torch

from dgmm.information.boundary import find_boundary
from dgmm.information.records import Information, reported_packing
from dgmm.likelihood import Point

__all__ = ["restricted_information"]


def restricted_information(at: Point) -> Information:
    """Covariance of all reported parameters of a REML fit, on the internal scale."""
    packing, (boundary, held) = reported_packing(at.model), find_boundary(at)
    curvature, form = at.likelihood.information(at.theta, packing)
    p, free = len(at.model.names), np.flatnonzero(~held)
    free = free[free >= p]
    inner = -curvature.matrix[np.ix_(free, free)]
    root = np.sqrt(np.maximum(np.abs(np.diag(inner)), 1e-300))
    smallest = float(np.linalg.eigvalsh(inner / root / root[:, None])[0])
    vcov = torch.full((packing.size, packing.size), torch.nan, dtype=torch.float64)
    known = torch.cat([torch.arange(p), torch.from_numpy(free)])
    vcov[known[:, None], known] = 0.0
    vcov[:p, :p] = at.likelihood.gls_covariance(at.theta)
    messages: tuple[str, ...] = ()
    if smallest > 1e-10:
        vcov[free[:, None], free] = torch.from_numpy(np.linalg.inv(inner))
    else:
        vcov[free[:, None], free] = torch.nan
        messages = ("the Hessian of the restricted likelihood is not positive definite",)
    return Information(packing, vcov, vcov, form, smallest, 0.0, boundary, {}, messages)
