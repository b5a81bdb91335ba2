"""The model of a call for several outcomes, fitted: separate models first, then all together."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from dgmm.design import build_design
from dgmm.estimate import Estimate
from dgmm.estimate.pilot import pilot, start_theta
from dgmm.fit import Fit, fit_model
from dgmm.formula import Several
from dgmm.information import information
from dgmm.likelihood import Maximum, choose
from dgmm.model import build_model, join, join_panels
from dgmm.multivariate.fit import MultivariateFit
from dgmm.multivariate.reading import Reading, check_seen, read_several
from dgmm.multivariate.starting import start_of
from dgmm.panel import Panel
from dgmm.plan import (
    Call,
    as_counted,
    check_options,
    is_deep,
    parse_call,
    read_family,
    request_behind,
)
from dgmm.record import Memory
from dgmm.runtime.versions import versions
from dgmm.runtime.warned import warn_user

__all__ = ["fit_several"]


def fit_several(
    several: Several, call: Call, families: Any, bounds: Any, outcome: Any, data: Any
) -> MultivariateFit:
    """Fit all outcomes together; see :func:`dgmm.mixed_model`."""
    check_options(call)
    reading = read_several(several, call, families, bounds, outcome)
    frames = reading.layout.frames(data, reading.names)
    check_seen(frames, reading.names)
    separate = tuple(_separate(reading, o, frame) for o, frame in enumerate(frames))
    models = [one.estimate.model for one in separate]
    model = join(reading.names, models, reading.parts)
    panel = join_panels([one.estimate.panel for one in separate], reading.parts)
    request = request_behind(call, separate[0].estimate)
    restricted = call.method == "reml"
    likelihood = choose(model, panel, call.likelihood, request.integration, restricted=restricted)
    found = likelihood.maximise(
        lambda: start_of(model, panel, reading.parts, separate), call.verbose
    )
    done = Estimate.of(found, "reml" if restricted else "ml")
    info = None
    if call.se is not None and not restricted:
        info = information(done, call.se, call.seed, call.control.hessian_draws)
    if not done.converged:
        warn_user(f"the fit has not converged: {'; '.join(done.messages)}")
    groups = tuple(reading.group for _ in model.latents)
    memories = tuple(replace(one.memory, groups=groups) for one in separate)
    return MultivariateFit(
        several,
        reading.calls,
        reading.layout,
        memories,
        done,
        info,
        tuple(separate),
        versions(),
        data,
    )


def _separate(reading: Reading, o: int, frame: Any) -> Fit:
    """The model of one outcome by itself, its parts as if no other outcome had them.

    An outcome that takes the part of another may not know a variance of its own: then it begins
    without one.
    """
    call = replace(reading.calls[o], se=None)
    if is_deep(parse_call(call)):
        raise ValueError(
            f"`{reading.names[o]}` has a network, which models of several outcomes do not have "
            "yet; fit it by itself, or make its terms linear"
        )
    try:
        return fit_model(call, frame)
    except ValueError:
        if not any(outcome == o for outcome, _ in reading.loads):
            raise
    family = read_family(call)
    design, family = as_counted(build_design(parse_call(call), frame), family)
    unit, eta = pilot(design, family)
    model, panel = build_model(design, family, unit), Panel.from_design(design)
    theta = start_theta(model, panel, eta, torch.Generator().manual_seed(call.seed))
    likelihood = choose(model, panel)
    maximum = Maximum(likelihood, theta, math.nan, 0.0, math.nan, 0, False)
    done = Estimate.of(maximum, "ml")
    return Fit(call, Memory.of(design, None, frame), done, None, (), versions())
