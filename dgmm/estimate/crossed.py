"""Several grouping factors, nested or crossed: exact for Gaussian outcomes, else by Laplace."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from dgmm.estimate.classical import exact_theta
from dgmm.estimate.pilot import start_theta
from dgmm.estimate.records import Estimate, Request
from dgmm.likelihood import gaussian
from dgmm.likelihood.crossed_gaussian import crossed_statistics
from dgmm.likelihood.crossed_laplace import JointLaplace
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta

__all__ = ["fit_crossed"]

RESTARTS = (0.3, 3.0)
"""Diagonals of Lambda to start from again when the first maximum has a variance of zero."""

ZERO = 1e-6


def fit_crossed(model: Model, panel: Panel, eta: Tensor, request: Request) -> Estimate:
    """Profile (restricted) maximum likelihood, or the maximum of Laplace's approximation."""
    if request.likelihood == "exact":
        return _fit_exact(model, panel, request)
    return _fit_laplace(model, panel, eta, request)


def _fit_exact(model: Model, panel: Panel, request: Request) -> Estimate:
    stats = crossed_statistics(model, panel.observed_rows())
    diagonal, reml = stats.pattern.on_diagonal, request.method == "reml"
    profile = gaussian.maximise(stats, reml)
    evaluations = profile.evaluations
    if bool((np.diag(profile.Lambda) < ZERO).any()):
        for value in RESTARTS:
            other = gaussian.maximise(stats, reml, np.where(diagonal, value, 0.0))
            evaluations += other.evaluations
            if other.log_likelihood > profile.log_likelihood:
                profile = other
    return Estimate(
        model,
        exact_theta(model, profile),
        panel,
        request.method,
        "exact",
        None,
        profile.log_likelihood,
        0.0,
        0.0,
        evaluations,
        profile.converged,
        vcov_gls=torch.from_numpy(profile.vcov_gls),
        messages=() if profile.converged else (f"optimiser: {profile.message}",),
    )


def _fit_laplace(model: Model, panel: Panel, eta: Tensor, request: Request) -> Estimate:
    joint = JointLaplace(model, panel.observed_rows())
    start = model.packing.pack(start_theta(model, panel, eta, torch.Generator())).numpy()
    place = np.arange(joint.p, joint.p + len(joint.pattern.row))[joint.pattern.on_diagonal]
    found = _maximise(joint, _with_diagonal(start, place, np.exp(start[place])), place)
    evaluations = found.nfev
    if bool((found.x[place] < ZERO).any()):
        for value in RESTARTS:
            other = _maximise(joint, _with_diagonal(found.x, place, value), place)
            evaluations += other.nfev
            found = other if other.fun < found.fun else found
    decrement = _decrement(found, joint, place)
    theta = _theta(joint, found.x)
    reached = decrement < request.control.tolerance
    message = f"the Newton decrement is {decrement:.3g} standard errors: {found.message}"
    estimate = Estimate(
        model,
        theta,
        panel,
        request.method,
        "laplace",
        None,
        joint.value(model.packing.pack(theta).numpy()),
        0.0,
        decrement,
        int(evaluations),
        reached,
    )
    return estimate if reached else replace(estimate, messages=(message,))


def _with_diagonal(x: np.ndarray, place: np.ndarray, value: np.ndarray | float) -> np.ndarray:
    out = x.copy()
    out[place] = value
    return out


def _maximise(joint: JointLaplace, start: np.ndarray, place: np.ndarray) -> optimize.OptimizeResult:
    """L-BFGS-B on -l / N, the diagonal of Lambda kept >= 0."""
    size = len(joint.t)

    def scaled(x: np.ndarray) -> tuple[float, np.ndarray]:
        try:
            value, gradient = joint.value_and_gradient(x, natural=True)
        except np.linalg.LinAlgError:  # far out: P is not positive definite
            return 1e10, np.zeros_like(x)
        if not np.isfinite(value):
            return 1e10, np.zeros_like(x)
        return -value / size, -gradient / size

    bounds: list[tuple[float | None, None]] = [(None, None)] * len(start)
    for j in place:
        bounds[j] = (0.0, None)
    options = {"ftol": 1e-15, "gtol": 1e-9, "maxiter": 500, "maxcor": 30}
    return optimize.minimize(
        scaled, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )


def _decrement(found: optimize.OptimizeResult, joint: JointLaplace, place: np.ndarray) -> float:
    """sqrt(g' H^-1 g) with the optimiser's own inverse Hessian, boundaries left out."""
    g = np.array(found.jac)
    g[place[found.x[place] <= 0]] = 0.0
    return float(np.sqrt(max(0.0, len(joint.t) * float(g @ (found.hess_inv @ g)))))


def _theta(joint: JointLaplace, x: np.ndarray) -> Theta:
    logged, inside = x.copy(), slice(joint.p, joint.p + len(joint.pattern.row))
    logged[inside] = joint.pattern.to_logged(x[inside])
    return joint.model.packing.unpack(torch.from_numpy(logged))
