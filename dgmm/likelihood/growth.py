"""Maxima of classical models without a closed likelihood: Laplace first, then a growing quadrature.

Every longer rule starts where the shorter one ended. The rule that confirms its predecessor within
0.01 is the one that is kept, so the error of the log-likelihood is far below that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dgmm.likelihood.adaptive_engine import AdaptiveEngine
from dgmm.likelihood.base import Integration, unreached
from dgmm.likelihood.laplace_curvature import NewtonSearch, is_curved
from dgmm.likelihood.profiling import near_zero
from dgmm.likelihood.rules import Laplace, NodeRule, Quadrature
from dgmm.likelihood.vector import ClassicalObjective
from dgmm.model import Model
from dgmm.numerics.ascent import Ascent, ascend
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.runtime.progress import Progress

__all__ = [
    "HANDOVER_DECREMENT",
    "MOST_AUTOMATIC",
    "RULE_TOLERANCE",
    "Grown",
    "first_quadrature",
    "grow",
    "likelihood_at",
    "moved",
    "not_by_columns",
]

RULE_TOLERANCE = 0.01
"""Change of the log-likelihood under a longer rule below which a rule is long enough."""

COARSE = 0.1
"""Change of the log-likelihood under a longer rule above which, where a search has failed, the
shorter is taken for the reason."""

HANDOVER_DECREMENT = 0.05
"""Decrement, in standard errors, at which the search passes from one likelihood to the next."""

MOST_AUTOMATIC = 2
"""Random effects up to which likelihood="auto" takes quadrature: beyond, it is slow."""

FUTILE = 150
"""Evaluations under quadrature rules after which a search that has not come near a maximum stops:
a likelihood that still rises as a variance goes to infinity, or has lost its digits."""

Reach = Callable[[AdaptiveEngine, np.ndarray, float], Ascent]


class Grown(NamedTuple):
    """The maximum under the rule that was kept."""

    engine: AdaptiveEngine
    rule: NodeRule
    found: Ascent
    change: float  # of the log-likelihood under a longer rule
    evaluations: int
    messages: tuple[str, ...]


def grow(
    model: Model,
    observed: Panel,
    theta: Theta,
    rule: NodeRule,
    integration: Integration,
    verbose: int = 0,
) -> Grown:
    """Maximise the Laplace approximation, then the quadrature if that is the ``rule``."""
    with Progress(verbose, 12, "marginal likelihood") as bar:

        def report(number: int, decrement: float) -> None:
            bar.update(number, elbo=None, gradient=decrement)

        searches: dict[int, NewtonSearch] = {}  # one that goes on knows where it stands

        def reach(at: AdaptiveEngine, x: np.ndarray, tolerance: float) -> Ascent:
            return _ascended(at, x, tolerance, searches, report)

        engine = likelihood_at(model, observed, Laplace())
        target = integration.tolerance / 100
        last = isinstance(rule, Laplace)
        found = reach(engine, engine.vector(theta), target if last else HANDOVER_DECREMENT)
        found = _off_the_boundary(engine, found, target if last else HANDOVER_DECREMENT)
        used, change = engine.evaluations, 0.0
        if not last:
            engine, rule, change, found = _longer(engine, rule, found.x, integration, reach)
            used += found.evaluations
            if found.decrement < HANDOVER_DECREMENT or found.evaluations < FUTILE:
                found = reach(engine, found.x, target)
                used += engine.evaluations
    notes = unreached(found.decrement, integration.tolerance)
    return Grown(engine, rule, found, change, used, notes)


def not_by_columns(model: Model) -> str | None:
    """Why the closed derivatives of Laplace's approximation do not apply; None when they do."""
    if len(model.outcomes) > 1:
        return "it is for one outcome"
    if model.networks or not model.by_columns:
        return "its derivatives are for random effects T Lambda b and models without dnn()"
    return None


def first_quadrature(k: int, integration: Integration) -> Quadrature:
    """The rule that a search begins with: the points asked for, or few that grow."""
    points = integration.points
    return Quadrature.default(k) if points is None else Quadrature(points)


def _longer(
    engine: AdaptiveEngine,
    rule: NodeRule,
    x: np.ndarray,
    integration: Integration,
    reach: Reach,
) -> tuple[AdaptiveEngine, NodeRule, float, Ascent]:
    """The likelihood under a rule that a longer one confirmed, near its maximum."""
    engine, k = moved(engine, rule), engine.model.k
    free = integration.points is None
    engine, rule, found, used = _reached(engine, rule, x, reach, free)
    longer, change = rule.longer(k), 0.0
    while longer is not None:
        trial = moved(engine, longer)
        change = abs(trial.value(found.x) - found.value)
        if not free:
            break
        rule, engine = longer, trial
        if change < RULE_TOLERANCE:
            break
        if found.evaluations >= FUTILE and found.decrement >= HANDOVER_DECREMENT:
            found = found._replace(value=trial.value(found.x))
            break
        engine, rule, found, more = _reached(engine, rule, found.x, reach, free)
        used += more
        longer = rule.longer(k)
    return engine, rule, change, found._replace(evaluations=used)


def _reached(
    engine: AdaptiveEngine, rule: NodeRule, x: np.ndarray, reach: Reach, free: bool
) -> tuple[AdaptiveEngine, NodeRule, Ascent, int]:
    """The maximum under a rule, or, where the search for it fails, under one that is long enough;
    and the evaluations of both.

    The gradient is that of an exact rule: where a rule is coarse it is not that of its value, and
    no search along it ends.
    """
    found = reach(engine, x, HANDOVER_DECREMENT)
    if found.decrement < HANDOVER_DECREMENT or not free:
        return engine, rule, found, found.evaluations
    finer, longer = _fine(moved(engine, rule), rule, x)
    if longer == rule:
        return engine, rule, found, found.evaluations
    again = reach(finer, x, HANDOVER_DECREMENT)
    return finer, longer, again, found.evaluations + again.evaluations


def _fine(engine: AdaptiveEngine, rule: NodeRule, x: np.ndarray) -> tuple[AdaptiveEngine, NodeRule]:
    """The first rule, from one on, that the next longer one does not find coarse at a point.

    At most the last but one: the longest rule is there to confirm.
    """
    value, longer, k = engine.value(x), rule.longer(engine.model.k), engine.model.k
    while longer is not None and longer.longer(k) is not None:
        trial = moved(engine, longer)
        better = trial.value(x)
        if abs(better - value) < COARSE:
            break
        engine, rule, value, longer = trial, longer, better, longer.longer(k)
    return engine, rule


def likelihood_at(model: Model, observed: Panel, rule: NodeRule) -> AdaptiveEngine:
    """The marginal likelihood of a classical model under a rule without random nodes."""
    nodes = rule.nodes(model.k, observed.n, np.random.default_rng(0))
    return AdaptiveEngine(model, observed, nodes)


def _off_the_boundary(engine: AdaptiveEngine, found: Ascent, tolerance: float) -> Ascent:
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
    again = _ascended(engine, x, tolerance, {}, None)
    return again if again.value > found.value + 1e-6 else found


def _ascended(
    engine: AdaptiveEngine,
    x: np.ndarray,
    tolerance: float,
    searches: dict[int, NewtonSearch],
    report: Callable[[int, float], None] | None,
) -> Ascent:
    """The maximum by Newton's steps where the curvature is known, else by scoring."""
    if not is_curved(engine):
        return ascend(engine, x, tolerance=tolerance, report=report)
    own = searches.setdefault(id(engine), NewtonSearch(engine))
    return ascend(own, x, tolerance=tolerance, report=report, along=own.along)


def moved(engine: ClassicalObjective, rule: NodeRule) -> AdaptiveEngine:
    """The likelihood under another rule, its modes where the last ones were."""
    if not isinstance(engine, AdaptiveEngine):
        return likelihood_at(engine.model, engine.panel, rule)
    return engine.by(rule.nodes(engine.model.k, engine.panel.n, np.random.default_rng(0)))
