"""A joint fit as one of its outcomes sees it: that outcome in front, everything else the same.

Whatever the package says about the outcome of a fit it then says about this one, with the random
effects, the parameters and the outcomes seen of all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dgmm.design import label_key, label_rank
from dgmm.estimate import Estimate
from dgmm.fit import Fit
from dgmm.information import Information, Joint, reported_packing
from dgmm.likelihood import Likelihood
from dgmm.model import Model, apart, apart_theta, led_by, led_panel, led_theta
from dgmm.multivariate.record import FittedOutcomes
from dgmm.panel import Panel
from dgmm.prediction.moments import outcomes_seen

__all__ = ["alone_history", "history_of", "in_front_alone", "view"]


def view(fit: FittedOutcomes, o: int) -> Fit:
    """The fit with the outcome ``o`` (0, 1, ...) in front.

    Coefficients that it has in common with others are its own there, with a covariance of one with
    those of the others that is singular. Of the notes it has those of the search alone.
    """
    done = fit.estimate
    model, panel = led_by(apart(done.model), o), led_panel(done.panel, o)
    likelihood: Likelihood = replace(done.likelihood, model=model, panel=panel)
    theta = led_theta(done.model, apart_theta(done.model, done.theta), o)
    theta = {name: theta[name] for name in model.packing.shapes}
    others = tuple(
        replace(one, model=led_by(one.model, o), theta=led_theta(one.model, one.theta, o))
        for one in done.others
    )
    estimate = replace(
        done,
        likelihood=likelihood,
        theta=theta,
        others=others,
        start_coefficients=_coefficients_led(done, o),
    )
    info = None if fit.known is None else _led(fit.known, done.model, model, o)
    return Fit(
        replace(fit.calls[o], formula=fit.several.formulas[o]),
        fit.memories[o],
        estimate,
        info,
        done.messages,
        fit.versions,
    )


def _coefficients_led(done: Estimate, o: int) -> Tensor | None:
    """The coefficients of every start, those of the leader first."""
    if done.start_coefficients is None:
        return None
    parts = done.start_coefficients.split([len(one.names) for one in done.model.outcomes], dim=1)
    return torch.cat([parts[o], *parts[:o], *parts[o + 1 :]], dim=1)


def _led(info: Information, old: Model, new: Model, o: int) -> Information:
    """The covariance in the order of the parameters of another leader."""
    places = {name: info.packing.positions([name]) for name in info.packing.shapes}
    places |= {f"{one.key}beta": one.places(info.packing) for one in old.outcomes}
    renamed = led_theta(old, places, o)
    packing = reported_packing(new)
    at = torch.cat([renamed[name] for name in packing.shapes])
    vcov, inverse = (V[at][:, at] for V in (info.vcov, info.inverse_hessian))
    joint = info.joint
    if joint is not None:
        where = led_theta(old, {n: joint.packing.positions([n]) for n in joint.packing.shapes}, o)
        every = torch.cat([where[name] for name in new.packing.shapes])
        joint = Joint(new.packing, joint.vcov[every][:, every])
    return replace(info, packing=packing, vcov=vcov, inverse_hessian=inverse, joint=joint)


def in_front_alone(fit: FittedOutcomes, o: int) -> Estimate:
    """The estimate as rows of an outcome are read by: the others are not there."""
    done = fit.estimate
    entries = tuple(
        tuple(replace(one, outcome=0) for one in own if one.outcome == o)
        for own in done.model.entries
    )
    model = replace(done.model, outcomes=(done.model.outcomes[o],), entries=entries)
    alone = replace(done.panel.panels[o], beside=())
    return replace(done, likelihood=replace(done.likelihood, model=model, panel=alone))


def history_of(fit: FittedOutcomes, one: Fit, o: int, data: Any) -> Panel:
    """The outcomes of all kinds that a frame holds, in the order of a view; others are missing.

    Raises:
        ValueError: it holds no outcome of the fit.
    """
    names = fit.names
    frames = fit.layout.present(data, names)
    if all(frame is None for frame in frames):
        listed = ", ".join(f"`{name}`" for name in names)
        raise ValueError(f"history= holds none of the outcomes {listed}")
    order = [o, *(other for other in range(len(names)) if other != o)]
    found: list[Panel | None] = []
    for other in order:
        frame = frames[other]
        if frame is None:
            found.append(None)
            continue
        point = in_front_alone(fit, other)
        found.append(outcomes_seen(point, fit.memories[other].spec, frame))
    ids = _every_id([panel.ids for panel in found if panel is not None])
    every = [
        replace(own, beside=()).select(torch.zeros(0, dtype=torch.long)).align(ids)
        if panel is None
        else panel.align(ids)
        for panel, own in zip(found, one.estimate.observed.panels, strict=True)
    ]
    return replace(every[0], beside=tuple(every[1:]))


def _every_id(labels: list[np.ndarray]) -> np.ndarray:
    """The labels of all outcomes, each once, in their natural order; rows of nobody are last."""
    every = {label_key(one): one for own in labels for one in own}
    found = np.array(list(every.values()), dtype=object)
    return found[np.argsort(label_rank(found), kind="stable")]


def alone_history(fit: FittedOutcomes, alone: Fit, o: int, data: Any) -> Panel:
    """The values of one outcome that a frame holds, with the columns of its separate fit."""
    frame = fit.layout.present(data, fit.names)[o]
    if frame is None:
        return alone.estimate.observed.select(torch.zeros(0, dtype=torch.long))
    return outcomes_seen(alone.estimate, alone.memory.spec, frame)
