"""Where the search for the maximum of a joint model begins: separate fits, and their residue."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dgmm.fit import Fit
from dgmm.model import Model, Part, shared_theta
from dgmm.panel import Panel
from dgmm.parameters import Theta, part

__all__ = ["start_of"]


def start_of(
    model: Model, panel: Panel, parts: Sequence[Sequence[Part]], separate: Sequence[Fit]
) -> Theta:
    """theta with the coefficients of the separate fits, and the correlations of their effects."""
    theta: Theta = {}
    for outcome, one in zip(model.outcomes, separate, strict=True):
        found = one.estimate.theta
        theta |= {f"{outcome.key}{n}": v.detach() for n, v in found.items() if n[:6] != "latent"}
    theta = shared_theta(model, theta, [one.estimate.model.outcome for one in separate])
    for i, (latent, own) in enumerate(zip(model.latents, parts, strict=True), 1):
        if len(own) == 1:
            (first,) = own
            weights = part(separate[first.outcome].estimate.theta, f"latent{first.latent + 1}.")
        else:
            weights = latent.from_parts(
                {
                    model.outcomes[one.outcome].name: _effects(separate[one.outcome], one, panel)
                    for one in own
                }
            )
        theta |= {f"latent{i}.{name}": value.detach() for name, value in weights.items()}
    if model.residual is not None:  # as if they were independent
        theta |= {n: torch.zeros(shape).double() for n, shape in model.residual.shapes().items()}
    return {name: theta[name] for name in model.packing.shapes}


def _effects(one: Fit, at: Part, panel: Panel) -> tuple[Tensor, Tensor]:
    """D (q, q) of a part in its separate fit, and the conditional means of all subjects (n, q)."""
    done = one.estimate
    latents = done.model.latents
    Lambda = latents[at.latent].loadings(part(done.theta, f"latent{at.latent + 1}.")).detach()
    first = sum(latent.dim for latent in latents[: at.latent])
    mean = (
        done.likelihood.posterior(done.theta).effects().mean[0][:, first : first + Lambda.shape[1]]
    )
    place = {label: j for j, label in enumerate(done.panel.ids.tolist())}
    at_ids = torch.tensor([place.get(label, -1) for label in panel.ids.tolist()])
    known = torch.where(at_ids[:, None] < 0, torch.nan, (mean @ Lambda.T)[at_ids.clamp(min=0)])
    return Lambda @ Lambda.T, known
