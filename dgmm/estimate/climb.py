"""Classical models without a closed likelihood: Laplace first, then quadrature that grows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dgmm.estimate.records import Estimate, Request, unreached
from dgmm.likelihood import ClassicalLikelihood, Laplace, NodeRule, Quadrature
from dgmm.likelihood.gaussian import near_zero
from dgmm.likelihood.vector import ClassicalObjective
from dgmm.model import Model
from dgmm.numerics.ascent import Ascent, ascend
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.runtime.progress import Progress

__all__ = ["climb", "likelihood_at", "moved"]

ENOUGH = 0.01
"""The rule has grown enough when a longer one moves the log-likelihood by less."""

NEAR = 0.05
"""Decrement, in standard errors, at which a rule that is not the last one is left."""


def climb(model: Model, panel: Panel, theta: Theta, rule: NodeRule, request: Request) -> Estimate:
    """Maximise the Laplace approximation, then the quadrature if that is the ``rule``.

    Every longer rule starts where the shorter one ended. The rule that confirms its predecessor
    within 0.01 is the one that is kept, so the error of the log-likelihood is far below that.
    """
    observed = panel.observed_rows()
    with Progress(request.verbose, 12, "marginal likelihood") as bar:

        def report(number: int, decrement: float) -> None:
            bar.update(number, elbo=None, gradient=decrement)

        def reach(at: ClassicalLikelihood, x: np.ndarray, tolerance: float) -> Ascent:
            return ascend(at, x, tolerance=tolerance, report=report)

        engine = likelihood_at(model, observed, Laplace())
        target = request.control.tolerance / 100
        growing = isinstance(rule, Quadrature)
        found = reach(engine, engine.vector(theta), NEAR if growing else target)
        found = _off_the_boundary(engine, found, NEAR if growing else target)
        used, change = engine.evaluations, 0.0
        if isinstance(rule, Quadrature):
            engine, rule, change, more = _grow(engine, rule, found.x, request, reach)
            found = reach(engine, more.x, target)
            used += engine.evaluations + more.evaluations
    return _concluded(engine, panel, found, rule, change, used, request)


def _grow(
    engine: ClassicalLikelihood,
    rule: Quadrature,
    x: np.ndarray,
    request: Request,
    reach: Callable[[ClassicalLikelihood, np.ndarray, float], Ascent],
) -> tuple[ClassicalLikelihood, Quadrature, float, Ascent]:
    """The likelihood under a rule that a longer one confirmed, near its maximum."""
    engine = moved(engine, rule)
    found = reach(engine, x, NEAR)
    longer, used, change = rule.longer(engine.model.k), found.evaluations, 0.0
    while longer is not None:
        trial = moved(engine, longer)
        change = abs(trial.value(found.x) - found.value)
        if request.control.points is not None:
            break
        rule, engine = longer, trial
        if change < ENOUGH:
            break
        found = reach(engine, found.x, NEAR)
        used += found.evaluations
        longer = rule.longer(engine.model.k)
    return engine, rule, change, found._replace(evaluations=used)


def likelihood_at(model: Model, observed: Panel, rule: NodeRule) -> ClassicalLikelihood:
    """The marginal likelihood of a classical model under a rule without random nodes."""
    nodes = rule.nodes(model.k, observed.n, np.random.default_rng(0))
    return ClassicalLikelihood(model, observed, nodes)


def _off_the_boundary(engine: ClassicalLikelihood, found: Ascent, tolerance: float) -> Ascent:
    """Begin again with a larger entry where the diagonal of Lambda came near zero, if that helps.

    l is even in every column of Lambda: zero is a stationary point whether or not it is the best.
    """
    first = engine.sizes[0]
    inside = slice(first, first + engine.sizes[1])
    low = near_zero(engine.pattern, found.x[inside])
    if not low.any():
        return found
    x = found.x.copy()
    x[inside] = np.where(low, 0.5, x[inside])
    again = ascend(engine, x, tolerance=tolerance)
    return again if again.value > found.value + 1e-6 else found


def moved(engine: ClassicalObjective, rule: NodeRule) -> ClassicalLikelihood:
    """The likelihood under another rule, its modes where the last ones were."""
    other = likelihood_at(engine.model, engine.panel, rule)
    other.modes[:] = engine.modes
    return other


def _concluded(
    engine: ClassicalLikelihood,
    panel: Panel,
    found: Ascent,
    rule: NodeRule,
    change: float,
    used: int,
    request: Request,
) -> Estimate:
    tolerance = request.control.tolerance
    reached = found.decrement < tolerance
    return Estimate(
        engine.model,
        engine.theta(found.x),
        panel,
        request.method,
        rule.name,
        rule,
        found.value,
        change,
        found.decrement,
        used,
        reached,
        messages=unreached(found.decrement, tolerance),
    )
