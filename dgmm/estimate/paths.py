"""Maximum likelihood of models with paths: a numerical likelihood polished from several starts.

For a Gaussian outcome the normal approximation at the modes is exact. The likelihood may have a
maximum for every share of the variance between path, intercept and noise, so starts differ in the
correlation over time.
"""

from __future__ import annotations

from collections.abc import Sequence

from dgmm.estimate.finish import conclude
from dgmm.estimate.polish import polish
from dgmm.estimate.records import Estimate, Request
from dgmm.likelihood import NodeRule
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.runtime.progress import Progress

__all__ = ["fit_paths"]


def fit_paths(
    model: Model, panel: Panel, starts: Sequence[Theta], rule: NodeRule, request: Request
) -> Estimate:
    """The highest of the maxima reached from some starting values."""
    observed, tolerance = panel.observed_rows(), request.control.tolerance / 100
    with Progress(request.verbose, 12, "marginal likelihood") as bar:
        reached = [
            polish(model, theta, observed, rule, request.seed, tolerance=tolerance, progress=bar)
            for theta in starts
        ]
    best = max(reached, key=lambda one: one.path[-1])
    return conclude(model, panel, best, rule, request)
