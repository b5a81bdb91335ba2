"""Draws of what a fit does not know: theta given all outcomes, b given theta and these outcomes.

    theta ~ N(theta-hat, V),   b | theta, y,   u_ij = P(Y < y_ij | b) + V P(Y = y_ij | b)

Of a right model (b, y) is a draw from the joint density, so that at the true theta all u_ij are
independent and uniform. At theta-hat they are not, because the estimate has taken up some of what
is in y; at a draw of theta they are again, to first order: what the estimate takes away the draw
adds.

References:
    Johnson (2004), Annals of Statistics 32, 2361-2384; Johnson (2007), Bayesian Analysis 2,
    719-734; Waagepetersen (2006), Scandinavian J. Statistics 33, 721-731; Yuan and Johnson (2012),
    Biometrics 68, 156-164.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from dgmm.estimate import Estimate
from dgmm.families import Extra, Observations
from dgmm.information import Information, uncertainty
from dgmm.model import Model
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.posterior.draws import draw_many
from dgmm.prediction.moments import posterior_draws
from dgmm.record import Fitted, joint_information

__all__ = ["Drawn", "at_effects", "completed", "draws", "filled", "theta_draws", "theta_of"]


class Drawn(NamedTuple):
    """A value of theta with one of b, and what they make of every planned row."""

    theta: Theta
    eta: Tensor  # (N,)
    extra: Extra  # (R,), or (R, N)
    b: Tensor | None  # (n, k), None where the rows of a subject do not share one


def theta_draws(
    done: Estimate, info: Information | None, size: int, generator: torch.Generator
) -> list[Theta]:
    """Values of theta in the place of the estimate; the estimate where nothing is known of it."""
    known = None if info is None else uncertainty(done, info, weights=True)
    if known is None or known.empty:
        return [done.theta] * size
    return known.taking_held_as_known().draw(size, generator)


def theta_of(fit: Fitted, generator: torch.Generator) -> Theta:
    """The theta under which outcomes are looked at: the estimate, of a posterior a draw of it."""
    if not fit.sampled:
        return fit.estimate.theta
    return theta_draws(fit.estimate, joint_information(fit), 1, generator)[0]


def draws(done: Estimate, theta: Theta, size: int, generator: torch.Generator) -> Iterator[Drawn]:
    """Draws of b given the outcomes seen, at one theta; of the start that is reported."""
    model, panel = done.model, done.panel
    if panel.several or model.serial:
        for _ in range(size):
            yield _without_effects(done, theta, generator)
        return
    history = model.history(panel)
    if done.likelihood.normal:
        posterior = done.likelihood.on(history).posterior(theta)
        every = torch.stack([posterior.effect_draws(generator) for _ in range(size)])
    else:
        every, _ = draw_many(model, theta, history, size, generator)
    for b in every:
        eta, extra = at_effects(model, theta, panel, b)
        yield Drawn(theta, eta, extra, b)


def _without_effects(done: Estimate, theta: Theta, generator: torch.Generator) -> Drawn:
    """The same where levels of several factors, or states, take the place of b."""
    seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
    moved = replace(done, theta=theta, others=())
    (eta,) = posterior_draws(moved, done.kept, done.panel, 1, seed)
    with torch.no_grad():
        return Drawn(theta, eta, done.model.extra(theta, done.panel.rows), None)


@torch.no_grad()
def at_effects(model: Model, theta: Theta, panel: Panel, b: Tensor) -> tuple[Tensor, Extra]:
    """eta (N,) and extra parameters (R, N) of every row at given effects (n, k)."""
    ready = model.prepare(theta)
    eta = torch.zeros(panel.n_rows, dtype=torch.float64)
    extra = torch.zeros(len(model.family.extra), panel.n_rows, dtype=torch.float64)
    for block in panel.blocks():
        own, rows = b[block.subjects], block.rows
        value = model.mu1(ready, rows) + model.mu2(model.at(ready, own, block), own, rows)
        eta[block.index[block.mask]] = value[block.mask]
        for r, one in enumerate(model.extra(ready, rows, own)):
            extra[r, block.index[block.mask]] = one.expand(value.shape)[block.mask]
    return eta, extra


def filled(panel: Panel) -> Observations:
    """Outcomes, with one that was seen in the place of every one that was not."""
    first = int(panel.observed.int().argmax())
    columns = (torch.where(panel.observed, one, one[first]) for one in panel.rows.data)
    return Observations(*columns)


def completed(model: Model, panel: Panel, one: Drawn, generator: torch.Generator) -> Tensor:
    """Outcomes of all planned rows, (N,): those not seen are drawn given b."""
    data, observed = filled(panel), panel.observed
    if bool(observed.all()):
        return data.y
    with torch.no_grad():
        drawn = model.family.simulate(one.eta, data, one.extra, generator)
    return torch.where(observed, data.y, drawn)
