"""The information of a REML fit: GLS form for beta, the restricted likelihood for the variances.

Under the restricted likelihood beta is integrated out, so the two blocks are

    var(beta-hat) = (sum X'V^-1 X)^-1,   var(psi-hat) = {-d^2 l_R / d psi d psi'}^-1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dgmm.estimate import Estimate
from dgmm.information.boundary import find_boundary
from dgmm.information.gaussian import GaussianLikelihood
from dgmm.information.records import Information, reported_packing

__all__ = ["restricted_information"]


def restricted_information(done: Estimate) -> Information:
    """Covariance of all reported parameters of a REML fit, on the internal scale."""
    assert done.vcov_gls is not None
    likelihood = GaussianLikelihood.of(done, reml=True)
    packing = reported_packing(done.model)
    boundary, held = find_boundary(done)
    x = packing.pack(done.theta).detach()
    p = len(done.model.names)
    places = packing.positions([name for name in packing.shapes if name != "beta"])
    free = places[torch.from_numpy(~held)[places]]

    def value(part: Tensor) -> Tensor:
        theta = packing.unpack(x.index_put((free,), part))
        entries = []
        for i, latent in enumerate(done.model.latents, 1):
            entries.append(theta[f"latent{i}.log_diagonal"].exp())
            if "below" in latent.shapes():
                entries.append(theta[f"latent{i}.below"])
        log_sigma = theta["extra"][0]
        relative = torch.cat(entries) * likelihood.unit * torch.exp(-log_sigma)
        return likelihood.value(likelihood.fill(relative), log_sigma)

    inner = -torch.autograd.functional.hessian(value, x[free]).numpy()
    root = np.sqrt(np.maximum(np.abs(np.diag(inner)), 1e-300))
    smallest = float(np.linalg.eigvalsh(inner / root / root[:, None])[0])
    vcov = torch.full((packing.size, packing.size), torch.nan, dtype=torch.float64)
    known = torch.cat([torch.arange(p), free])
    vcov[known[:, None], known] = 0.0
    vcov[:p, :p] = done.vcov_gls
    messages: tuple[str, ...] = ()
    if smallest > 1e-10:
        vcov[free[:, None], free] = torch.from_numpy(np.linalg.inv(inner))
    else:
        vcov[free[:, None], free] = torch.nan
        messages = ("the Hessian of the restricted likelihood is not positive definite",)
    form = "GLS form; variance parameters by the Hessian of the restricted likelihood"
    return Information(packing, vcov, vcov, form, smallest, 0.0, boundary, {}, messages)
