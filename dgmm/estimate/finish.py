"""Stages 3 and 4: the node rule, the final log-likelihood and its error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from dgmm.estimate.polish import Polished
from dgmm.estimate.records import Estimate, Request, unreached
from dgmm.likelihood import Importance, Laplace, NodeRule, Quadrature, freeze, modes
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta

__all__ = ["choose_rule", "conclude", "fresh_likelihood", "independent_likelihoods"]


def choose_rule(model: Model, request: Request) -> NodeRule:
    """The node rule asked for."""
    if request.likelihood == "laplace":
        return Laplace()
    if request.likelihood == "quadrature":
        points = request.control.points
        default = Quadrature.default(model.k)
        return default if points is None else Quadrature(points)
    return Importance(request.control.draws)


def conclude(
    model: Model,
    panel: Panel,
    polished: Polished,
    rule: NodeRule,
    request: Request,
) -> Estimate:
    """Final log-likelihood with fresh nodes and its error."""
    control, theta = request.control, polished.theta
    if isinstance(rule, Importance):
        rule = replace(rule, draws=control.draws)
        each, error = fresh_likelihood(
            model, theta, panel.observed_rows(), rule, request, modes(polished.frozen)
        )
        value = float(each.sum())
    else:
        value = polished.frozen.value(theta)
        error = _change(model, theta, panel.observed_rows(), rule, value)
    reached = polished.decrement < control.tolerance
    return Estimate(
        model,
        theta,
        panel,
        request.method,
        request.likelihood,
        rule,
        value,
        error,
        polished.decrement,
        polished.evaluations,
        reached,
        messages=unreached(polished.decrement, control.tolerance),
    )


def _change(model: Model, theta: Theta, panel: Panel, rule: NodeRule, value: float) -> float:
    """By how much a longer quadrature moves the log-likelihood, 0 where there is none."""
    longer = rule.longer(model.k) if isinstance(rule, Quadrature) else None
    if longer is None:
        return 0.0
    again = freeze(model, theta, panel, longer, np.random.default_rng(0))
    return abs(again.value(theta) - value)


def fresh_likelihood(
    model: Model,
    theta: Theta,
    panel: Panel,
    rule: Importance,
    request: Request,
    start: Tensor | None = None,
) -> tuple[Tensor, float]:
    """l_i from independent scrambles together, and the Monte Carlo error of their sum."""
    replicates = request.control.replicates
    table = independent_likelihoods(model, theta, panel, rule, replicates, request.seed, start)
    error = float(table.sum(1).std() / np.sqrt(replicates))
    return torch.logsumexp(table, 0) - np.log(replicates), error


def independent_likelihoods(
    model: Model,
    theta: Theta,
    panel: Panel,
    rule: Importance,
    replicates: int,
    seed: int,
    start: Tensor | None = None,
    keys: Sequence[int] | None = None,
) -> Tensor:
    """l_i by every one of some independent scrambles, (replicates, n)."""
    values = []
    for number in range(replicates):
        rng = np.random.default_rng([seed, 71, number])
        frozen = freeze(model, theta, panel, rule, rng, start, keys)
        start = modes(frozen)
        values.append(frozen.per_subject(theta))
    return torch.stack(values)
