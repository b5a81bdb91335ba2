"""Starting values: the independence GLM."""

from __future__ import annotations

import torch
from torch import Tensor

from dgmm.design import Design
from dgmm.families import Family
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta

__all__ = ["pilot", "start_theta"]


def pilot(design: Design, family: Family) -> tuple[float, Tensor]:
    """Independence GLM by iteratively reweighted least squares: unit of eta, and X beta (N_obs,).

    The unit is the residual standard deviation for the identity link, else 1.
    """
    seen = torch.from_numpy(design.observed)
    X = torch.from_numpy(design.fixed.matrix)[seen]
    offset = torch.from_numpy(design.offset)[seen]
    rows = Panel.from_design(design).rows.take(torch.nonzero(seen)[:, 0])
    data = rows.data
    eta = family.link.forward(family.start_mean(data))
    extra = family.start_extra(data, family.start_mean(data))
    for _ in range(25):
        weight = family.information(data, eta, extra).clamp(min=1e-8)
        target = eta - offset + family.working_residual(data, eta, extra)
        root = weight.sqrt()
        beta = torch.linalg.lstsq(X * root[:, None], (target * root)[:, None]).solution[:, 0]
        new = offset + X @ beta
        done = bool((new - eta).abs().max() < 1e-8 * (1 + new.abs().max()))
        eta = new.clamp(-30, 30) if family.link.name != "identity" else new
        if done:
            break
    residual = family.working_residual(data, eta, extra)  # on the scale of eta, log y for lognormal
    identity = family.link.name == "identity"
    unit = float(residual.square().mean().sqrt()) if identity else 1.0
    return (unit if unit > 0 else 1.0), eta - offset


def start_theta(model: Model, panel: Panel, eta: Tensor, generator: torch.Generator) -> Theta:
    """theta of the independence model with modest random effects."""
    observed = panel.observed_rows()
    beta = torch.linalg.lstsq(observed.rows.X @ model.basis, eta[:, None]).solution[:, 0]
    theta: Theta = {"beta": beta}
    for i, network in enumerate(model.networks, 1):
        weights = network.network.initial(generator, last=0.02)
        weights["skip"] = torch.zeros(len(network.linear), dtype=torch.float64)
        theta |= {f"dnn{i}.{name}": value for name, value in weights.items()}
    for i, latent in enumerate(model.latents, 1):
        theta |= {f"latent{i}.{n}": v for n, v in latent.initial(generator).items()}
    mu = model.family.link.inverse(eta + observed.rows.offset)
    theta["extra"] = model.family.start_extra(observed.rows.data, mu)
    return theta
