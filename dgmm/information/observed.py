"""Observed information of a classical model: minus the Hessian of its marginal likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from dgmm.estimate import Estimate
from dgmm.estimate.climb import likelihood_at
from dgmm.information.records import reported_packing
from dgmm.likelihood import Frozen, Importance, Laplace, NodeRule, Quadrature, freeze, gaussian
from dgmm.likelihood.crossed_gaussian import crossed_statistics
from dgmm.likelihood.crossed_laplace import JointLaplace
from dgmm.numerics.hessian import Curvature, central_hessian, central_jacobian, curvature_of
from dgmm.panel import Panel
from dgmm.parameters import Packing, Theta

__all__ = ["classical_information", "freeze_at", "gradient_hessian", "observed_information"]

STEP = 0.005
"""Step of the central differences in pilot standard errors."""

LAPLACE_STEP = 0.02
"""The same for the closed gradient of the Laplace approximation, whose modes are iterated."""


def observed_information(
    done: Estimate, held: np.ndarray, seed: int, draws: int
) -> tuple[Curvature, str]:
    """Central-difference Hessian of the marginal log-likelihood over all reported parameters."""
    packing = reported_packing(done.model)
    x = packing.pack(done.theta).numpy()
    several = done.panel.crossing is not None
    if several and done.likelihood == "laplace":
        return _laplace_information(done, x)
    if done.likelihood == "exact":
        made = crossed_statistics if several else gaussian.statistics
        stats: gaussian.Sufficient = done.statistics or made(done.model, done.observed)
        value = gaussian.LogLikelihood(stats)
        step = _pilot_steps(value, x)
        curvature = central_hessian(value, x, step) if several else value.hessian(x, step)
        return curvature, "observed information, central differences"
    if done.model.by_columns and not isinstance(done.rule, Importance | None):
        return classical_information(done)
    frozen = freeze_at(done, done.theta, done.observed, seed, draws)
    return gradient_hessian(frozen, done.theta, packing), (
        "observed information, central differences of the score at frozen nodes"
    )


def classical_information(done: Estimate) -> tuple[Curvature, str]:
    """Louis's identity at quadrature nodes; central differences of the exact gradient for Laplace.

    On the scale of theta, whose diagonal of Lambda is logged.
    """
    assert done.rule is not None
    engine = likelihood_at(done.model, done.observed, done.rule)
    x = engine.vector(done.theta)
    here = engine.value_and_gradient(x, scores=True)
    slope = engine.working_slope(x)
    if isinstance(done.rule, Laplace):
        assert here.scores is not None
        pilot = 1 / np.sqrt((here.scores**2).sum(0) + 1e-12)
        step = LAPLACE_STEP * np.minimum(pilot, 1.0)
        H = central_jacobian(lambda at: engine.value_and_gradient(at).gradient, x, step).matrix
        form = "observed information of the Laplace approximation, central differences of the score"
    else:
        H = -engine.information(x)
        form = "observed information at the quadrature nodes (Louis's identity)"
    H = slope[:, None] * H * slope
    first = len(done.model.names)
    logged = first + np.flatnonzero(engine.pattern.on_diagonal)
    H[logged, logged] += here.gradient[logged] * x[logged]
    return curvature_of(H), form


def _laplace_information(done: Estimate, x: np.ndarray) -> tuple[Curvature, str]:
    joint = JointLaplace(done.model, done.observed)
    step = _pilot_steps(joint.value, x)
    curvature = central_jacobian(lambda at: joint.value_and_gradient(at)[1], x, step)
    return curvature, (
        "observed information, central differences of the gradient of the Laplace approximation"
    )


def _pilot_steps(value: Callable[[np.ndarray], float], x: np.ndarray) -> np.ndarray:
    """STEP pilot standard errors, from plain second differences on the diagonal."""
    centre, steps = value(x), np.empty_like(x)
    for j in range(len(x)):
        h = 1e-3 * max(1.0, abs(x[j]))
        unit = np.zeros_like(x)
        unit[j] = h
        curvature = -(value(x + unit) - 2 * centre + value(x - unit)) / h**2
        steps[j] = STEP / math.sqrt(curvature) if curvature > 0 else h
    return np.clip(steps, 1e-6, 0.05)


def gradient_hessian(frozen: Frozen, theta: Theta, packing: Packing) -> Curvature:
    """Central differences of the gradient of l at frozen nodes, nodes following theta."""
    scores = frozen.scores(theta, packing)
    # pilot standard errors from the scores; a parameter without information gets a small step
    pilot = (scores.square().sum(0) + 1e-12).rsqrt().clamp(max=1.0).numpy()

    def gradient(vector: np.ndarray) -> np.ndarray:
        moved = {**theta, **packing.unpack(torch.from_numpy(vector))}
        # a single node is at the mode or is no approximation; more of them need only be near
        at = frozen.moved(moved) if frozen.single else frozen
        return packing.pack(at.value_and_gradient(moved, packing.shapes)[1]).numpy()

    return central_jacobian(gradient, packing.pack(theta).numpy(), STEP * pilot)


def freeze_at(
    done: Estimate,
    theta: Theta,
    panel: Panel,
    seed: int,
    draws: int,
    start: Tensor | None = None,
) -> Frozen:
    """Nodes for standard errors: the rule of the fit; ``draws`` quasi-random ones if sampled.

    start: where the search for the modes begins, (n, k).
    """
    rule: NodeRule
    if done.rule is None:
        rule = Quadrature(3) if done.model.k <= 3 else Importance(draws)
    elif isinstance(done.rule, Importance):
        rule = replace(done.rule, draws=draws)
    else:
        rule = done.rule
    return freeze(done.model, theta, panel, rule, np.random.default_rng([seed, 29]), start)
