"""Networks in a model of several outcomes, fitted above the joint classical model within it.

The classical model has normal effects in place of networks: of a latent that outcomes share its
factors, of parts that are correlated a free covariance. From there on a joint model is learned,
scored on folds and brought to its maximum as one of a single outcome (:mod:`dgmm.estimate.deep`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dgmm.estimate import Estimate
from dgmm.estimate.deep import fit_deep
from dgmm.estimate.nested import Nested
from dgmm.estimate.pilot import pilot
from dgmm.estimate.recursive import fit_recursive
from dgmm.fit import Fit
from dgmm.formula import nested_formula
from dgmm.likelihood import Integration, choose
from dgmm.model import Model, build_model, join, join_panels
from dgmm.multivariate.reading import Reading
from dgmm.multivariate.starting import start_of
from dgmm.panel import Panel
from dgmm.plan import Call, is_deep, parse_call, read_designs, read_family, request_behind
from dgmm.record import Memory

__all__ = ["fit_networks", "has_networks", "within_networks"]

STARTS = 2
"""Neural random effects depend on their start."""


def has_networks(call: Call) -> bool:
    """Whether the formula of an outcome has a network."""
    return is_deep(parse_call(call))


def within_networks(call: Call) -> Call:
    """The call of the classical model of one outcome."""
    parsed = parse_call(call)
    text = nested_formula(parsed).text
    return replace(call, formula=text, likelihood="auto", method="auto")


def fit_networks(
    reading: Reading, frames: Sequence[Any], call: Call, separate: Sequence[Fit]
) -> tuple[Estimate, list[tuple[Memory, Panel]]]:
    """The joint estimate, and of every outcome its memory and its panel by itself.

    separate: the classical model of every outcome by itself.

    Raises:
        ValueError: coefficients in common, or correlated residuals.
    """
    if reading.several.shared or reading.several.rescor:
        word = "shared=" if reading.several.shared else "rescor="
        raise ValueError(f"mv({word}) is for models without dnn(); leave it out")
    models, panels, memories = list[Model](), list[Panel](), list[Memory]()
    means = list[Tensor]()
    for own, frame in zip(reading.calls, frames, strict=True):
        design, nested, family = read_designs(own, parse_call(own), read_family(own), frame)
        unit, eta = pilot(design, family)
        means.append(eta)
        models.append(build_model(design, family, unit, own.control.ridge))
        panels.append(Panel.from_design(design))
        memories.append(Memory.of(design, nested, frame))
    model = join(reading.names, models, reading.parts)
    behind = request_behind(call, separate[0].estimate)
    starts = call.starts or (STARTS if any(one.neural for one in model.latents) else 1)
    method = "ml" if call.method == "auto" else call.method
    request = replace(behind, method=method, likelihood=call.likelihood, starts=starts)
    likelihood = choose(
        model,
        join_panels(panels, reading.parts),
        call.likelihood,
        request.integration,
        sampled=method == "vae",
    )
    if model.recursive:
        done = fit_recursive(likelihood, torch.cat(means), request)
        return done, list(zip(memories, panels, strict=True))
    below = _classical(reading, model, separate, request.integration)
    return fit_deep(likelihood, below, request), list(zip(memories, panels, strict=True))


def _classical(
    reading: Reading, model: Model, separate: Sequence[Fit], integration: Integration
) -> Nested:
    """The joint classical model within ``model``, from those of all outcomes."""
    points = [one.estimate for one in separate]
    within = join(reading.names, [one.model for one in points], reading.parts, model)
    panel = join_panels([one.panel for one in points], reading.parts)
    likelihood = choose(within, panel, "auto", integration)
    return Nested(likelihood, lambda: start_of(within, panel, reading.parts, separate))
