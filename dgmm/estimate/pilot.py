"""Starting values: the independence GLM."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from dgmm.design import Design
from dgmm.families import Family, Observations
from dgmm.model import Model
from dgmm.numerics.bases import orthonormal
from dgmm.numerics.triangle import ROWS, triangle
from dgmm.panel import Panel
from dgmm.parameters import Theta

__all__ = ["pilot", "start_theta"]

LARGEST_ETA = 30.0

SETTLED = 1e-3
"""Change of eta, relative to its size, below which it has been found."""

NEARBY = 0.25
"""That change where a search for the mixed model goes on from the pilot."""


def pilot(design: Design, family: Family, *, roughly: bool = False) -> tuple[float, Tensor]:
    """Independence GLM by iteratively reweighted least squares: unit of eta, and X beta (N_obs,).

    The unit is the residual standard deviation for the identity link, else 1; with others eta may
    be found ``roughly``.
    """
    data, offset, X = _seen(design)
    identity = family.link.name == "identity"
    if family.conjugate and family.noise:
        eta = _by_weights(X, _triangle(design, X), data, offset)
        unit = float((data.y / data.trials - offset - eta).square().mean().sqrt())
        return (unit if unit > 0 else 1.0), eta
    start = family.start_mean(data)
    eta = family.link.forward(start)
    extra = family.start_extra(data, start)
    basis = orthonormal(torch.from_numpy(_triangle(design, X)))
    weight, target = torch.empty_like(eta), torch.empty_like(eta)
    for _ in range(25):
        for at in _blocks(X):
            part = Observations(*(column[at] for column in data))
            weight[at], residual = _working(family, part, eta[at], extra, roughly)
            target[at] = eta[at] - offset[at] + residual
        weight.clamp_(min=1e-8)
        new = offset + X @ (basis @ _least_squares(X, basis, weight / weight.max(), target))
        if not identity:
            new.clamp_(-LARGEST_ETA, LARGEST_ETA)
        least = NEARBY if roughly and not identity else SETTLED
        near = bool((new - eta).abs().max() < least * (1 + new.abs().max()))
        # with an identity link the target is y - offset at any eta: equal weights give it at once
        done = near or (identity and bool(weight.max() == weight.min()))
        eta = new
        if done:
            break
    unit = 1.0
    if identity:  # on the scale of eta, log y for lognormal
        residual = family.working_residual(data, eta, extra)
        unit = float(residual.square().mean().sqrt())
    return (unit if unit > 0 else 1.0), eta - offset


def _working(
    family: Family, data: Observations, eta: Tensor, extra: Tensor, roughly: bool
) -> tuple[Tensor, Tensor]:
    """Weights and residuals of scoring; from closed derivatives, with fewer digits, if they do."""
    if roughly and family.cumulant(eta[:1]) is not None:  # observed and expected are the same
        found = family.derivatives(data, eta, extra, 2)
        if found is not None:
            weight = -found.second
            return weight, found.first / weight.clamp(min=1e-10)
    return family.information(data, eta, extra), family.working_residual(data, eta, extra)


def _triangle(design: Design, X: Tensor) -> np.ndarray:
    """R of X = QR, which the design knows of all its rows."""
    return design.fixed.triangle if len(X) == design.n_rows else triangle(X.numpy())


def _by_weights(X: Tensor, R: np.ndarray, data: Observations, offset: Tensor) -> Tensor:
    """X beta by least squares, which no iteration changes where y is normal about eta."""
    basis = orthonormal(torch.from_numpy(R))
    weight = data.weights.clamp(min=1e-8)
    target = data.y / data.trials - offset
    return X @ (basis @ _least_squares(X, basis, weight / weight.max(), target))


def _seen(design: Design) -> tuple[Observations, Tensor, Tensor]:
    """Data, offset and X of the rows whose outcome was seen; no copies when that is all rows."""
    seen = design.observed
    columns = (design.y, design.trials, design.weights, design.offset, design.fixed.matrix)
    if not seen.all():
        columns = tuple(column[seen] for column in columns)
    y, trials, weights, offset, X = map(torch.from_numpy, columns)
    return Observations(y, trials, weights), offset, X


def _blocks(X: Tensor) -> Iterator[slice]:
    """The rows of X, a cache's worth at a time."""
    for first in range(0, len(X), ROWS):
        yield slice(first, first + ROWS)


def _least_squares(X: Tensor, basis: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """(Q'WQ)^-1 Q'W target from the normal equations, for orthonormal columns Q = X basis."""
    p = basis.shape[1]
    if p == 0:  # no fixed part
        return target.new_zeros(0)
    A, c = torch.zeros(p, p, dtype=X.dtype), torch.zeros(p, dtype=X.dtype)
    for at in _blocks(X):
        Q = basis.T @ X[at].T  # rows along the last axis, which weights run along
        weighted = Q * weight[at]
        A += weighted @ Q.T
        c += weighted @ target[at]
    ridge = 1e-12 * A.diagonal().max() * torch.eye(p, dtype=X.dtype)
    solution: Tensor = torch.linalg.solve(A + ridge, c)
    return solution


def start_theta(model: Model, panel: Panel, eta: Tensor, generator: torch.Generator) -> Theta:
    """theta of the independence model with modest random effects.

    eta: of the independence model at the observed rows, of several outcomes one after the other.
    """
    theta: Theta = {}
    panels = panel.observed_rows().panels
    each = eta.split([int(one.observed.sum()) for one in panels])
    for outcome, own, mean in zip(model.outcomes, panels, each, strict=True):
        X = own.rows.X[: len(mean)]
        theta[f"{outcome.key}beta"] = _least_squares(X, outcome.basis, torch.ones_like(mean), mean)
        for i, network in enumerate(outcome.networks, 1):
            weights = network.network.initial(generator, last=0.02)
            weights["skip"] = torch.zeros(len(network.linear), dtype=torch.float64)
            theta |= {f"{outcome.key}dnn{i}.{name}": value for name, value in weights.items()}
    for i, latent in enumerate(model.latents, 1):
        theta |= {f"latent{i}.{n}": v for n, v in latent.initial(generator).items()}
    for outcome, own, mean in zip(model.outcomes, panels, each, strict=True):
        mu = outcome.family.link.inverse(mean + own.rows.offset)
        start = outcome.family.start_extra(own.rows.data, mu)
        theta[f"{outcome.key}extra"] = outcome.spread_extra(start, own.rows)
    return theta
