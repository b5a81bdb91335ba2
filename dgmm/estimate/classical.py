"""Stage 0: models without networks."""

from __future__ import annotations

import torch
from torch import Tensor

from dgmm.estimate.amortised import fit_amortised
from dgmm.estimate.pilot import start_theta
from dgmm.estimate.records import Estimate, Request
from dgmm.likelihood import Likelihood
from dgmm.model import Model
from dgmm.parameters import Theta

__all__ = ["cannot", "fit_linear"]


def cannot(model: Model, request: Request) -> str | None:
    """Why the likelihood is not maximised at once; None when it is."""
    return None if model.linear else "networks need a penalty or the bound"


def fit_linear(
    likelihood: Likelihood, eta: Tensor, request: Request, theta: Theta | None = None
) -> Estimate:
    """Maximise the likelihood of a classical model, from ``theta`` if one is near.

    eta: of the independence model at the observed rows, (N_obs,).
    """
    generator = torch.Generator().manual_seed(request.seed)

    def start() -> Theta:
        return theta or start_theta(likelihood.model, likelihood.panel, eta, generator)

    if request.method == "vae":
        return fit_amortised(likelihood, start(), request, generator)
    return Estimate.of(likelihood.maximise(start, request.verbose), request.method)
