"""Observed information: minus the Hessian of the marginal likelihood at theta-hat."""

from __future__ import annotations

from torch import Tensor

from dgmm.likelihood import Frozen, Point
from dgmm.panel import Panel
from dgmm.parameters import Theta

__all__ = ["freeze_at"]


def freeze_at(
    at: Point,
    theta: Theta,
    panel: Panel,
    seed: int,
    draws: int,
    start: Tensor | None = None,
) -> Frozen:
    """Nodes for standard errors: the rule of the fit; ``draws`` quasi-random ones if sampled.

    start: where the search for the modes begins, (n, k).
    """
    likelihood = at.likelihood.on(panel).by(seed=seed, hessian_draws=draws)
    return likelihood.anchored(theta, start)
