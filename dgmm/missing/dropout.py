"""Outcomes after dropout under a pattern-mixture model, visit by visit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dgmm.estimate import Patterns
from dgmm.model import Model
from dgmm.model.simulation import simulate_panel
from dgmm.panel import Panel
from dgmm.parameters import Theta
from dgmm.posterior.draws import complete, draw_effects

__all__ = ["complete_by_pattern"]


def complete_by_pattern(
    model: Model,
    patterns: Patterns,
    heads: Sequence[Theta],
    donors: Sequence[Theta],
    panel: Panel,
    delta: float,
    generator: torch.Generator,
) -> Tensor:
    """Outcomes of every planned row, (N,).

    Gaps before the last visit seen are filled within the pattern (missing at random there). Then,
    for t after it, y_t ~ f(y_t | y_<t) of the donors of visit t, where y_<t holds what was drawn
    before. With ``delta`` the linear predictor of every outcome after dropout is moved by it; the
    histories stay unmoved, so that delta is the distance from the restriction at every visit.
    """
    y = _without_gaps(model, patterns, heads, panel, generator)
    moved = y.clone()
    for visit, theta in enumerate(donors, start=patterns.first):
        gone = (patterns.last < visit) & (panel.count > visit)
        if not bool(gone.any()):
            continue
        at, sub = _select(panel, gone, y)
        history = sub.keep(sub.rows.occasion < visit)
        b, _ = draw_effects(model, theta, history, generator)
        target = sub.keep(sub.rows.occasion == visit)
        at = at[sub.rows.occasion == visit]
        y[at], moved[at] = _both(model, theta, target, b, delta, generator)
    return moved


def _without_gaps(
    model: Model,
    patterns: Patterns,
    heads: Sequence[Theta],
    panel: Panel,
    generator: torch.Generator,
) -> Tensor:
    """y (N,) with values for what is missing before the last visit seen."""
    y = panel.rows.data.y.clone()
    gap = ~panel.observed & (panel.rows.occasion < patterns.last[panel.subject])
    for number, theta in enumerate(heads):
        members = (patterns.group == number) & _any(gap, panel)
        if bool(members.any()):
            at, sub = _select(panel, members, y)
            drawn, _ = complete(model, theta, sub, generator)
            y[at[gap[at]]] = drawn[gap[at]]
    return y


def _both(
    model: Model,
    theta: Theta,
    target: Panel,
    b: Tensor,
    delta: float,
    generator: torch.Generator,
) -> Iterator[Tensor]:
    """Outcomes of a panel without and with the shift, from the same random numbers."""
    state = generator.get_state()
    yield simulate_panel(model, theta, target, generator, b)
    shifted = replace(target, rows=replace(target.rows, offset=target.rows.offset + delta))
    generator.set_state(state)
    yield simulate_panel(model, theta, shifted, generator, b)


def _select(panel: Panel, subjects: Tensor, y: Tensor) -> tuple[Tensor, Panel]:
    """The rows (positions) of some subjects, (n,) bool, and their panel with outcomes of ``y``."""
    at = torch.nonzero(subjects[panel.subject])[:, 0]
    chosen = panel.select(torch.nonzero(subjects)[:, 0])
    return at, chosen.with_outcome(y[at])


def _any(which: Tensor, panel: Panel) -> Tensor:
    """Subjects with at least one of some rows (N,) bool, (n,) bool."""
    return torch.zeros(panel.n).index_add(0, panel.subject, which.float()) > 0
