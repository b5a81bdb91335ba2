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

LARGEST_ETA = 30.0


def pilot(design: Design, family: Family) -> tuple[float, Tensor]:
    """Independence GLM by iteratively reweighted least squares: unit of eta, and X beta (N_obs,).

    The unit is the residual standard deviation for the identity link, else 1.
    """
    seen = torch.nonzero(torch.from_numpy(design.observed))[:, 0]
    rows = Panel.from_design(design).rows.take(seen)
    data, offset = rows.data, rows.offset
    identity = family.link.name == "identity"
    start = family.start_mean(data)
    eta = family.link.forward(start)
    extra = family.start_extra(data, start)
    Q, _ = torch.linalg.qr(rows.X)
    for _ in range(25):
        weight = family.information(data, eta, extra).clamp(min=1e-8)
        target = eta - offset + family.working_residual(data, eta, extra)
        new = offset + Q @ _least_squares(Q, weight / weight.max(), target)
        if not identity:
            new = new.clamp(-LARGEST_ETA, LARGEST_ETA)
        done = bool((new - eta).abs().max() < 1e-3 * (1 + new.abs().max()))
        eta = new
        if done:
            break
    residual = family.working_residual(data, eta, extra)  # on the scale of eta, log y for lognormal
    unit = float(residual.square().mean().sqrt()) if identity else 1.0
    return (unit if unit > 0 else 1.0), eta - offset


def _least_squares(X: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """(X'WX)^-1 X'W target from the normal equations, for orthonormal columns."""
    weighted = X * weight[:, None]
    A, c = weighted.T @ X, weighted.T @ target
    ridge = 1e-12 * A.diagonal().max() * torch.eye(len(A), dtype=A.dtype)
    solution: Tensor = torch.linalg.solve(A + ridge, c)
    return solution


def start_theta(model: Model, panel: Panel, eta: Tensor, generator: torch.Generator) -> Theta:
    """theta of the independence model with modest random effects."""
    observed = panel.observed_rows()
    X = observed.rows.X @ model.basis
    theta: Theta = {"beta": _least_squares(X, torch.ones_like(eta), eta)}
    for i, network in enumerate(model.networks, 1):
        weights = network.network.initial(generator, last=0.02)
        weights["skip"] = torch.zeros(len(network.linear), dtype=torch.float64)
        theta |= {f"dnn{i}.{name}": value for name, value in weights.items()}
    for i, latent in enumerate(model.latents, 1):
        theta |= {f"latent{i}.{n}": v for n, v in latent.initial(generator).items()}
    mu = model.family.link.inverse(eta + observed.rows.offset)
    start = model.family.start_extra(observed.rows.data, mu)
    theta["extra"] = model.spread_extra(start, observed.rows)
    return theta
