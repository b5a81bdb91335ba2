"""Draws of outcomes from the joint density p(b) p(y | b)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dgmm.model import Model
from dgmm.panel import Panel, effects_of_rows
from dgmm.parameters import Theta

__all__ = [
    "check_population",
    "simulate_crossed",
    "simulate_every",
    "simulate_outcomes",
    "simulate_panel",
]


def check_population(model: Model) -> None:
    """Raise ValueError where subjects without outcomes have no distribution."""
    flat = [latent.label for latent in model.latents if latent.flat]
    if flat:
        raise ValueError(
            f"{flat[0]} has a diffuse start: subjects without outcomes may be anywhere, and the "
            "population has no distribution. Take start='known' for one that has"
        )


def simulate_outcomes(
    model: Model,
    theta: Theta,
    panel: Panel,
    generator: torch.Generator,
    effects: Sequence[Tensor] | None = None,
) -> Tensor:
    """The first outcome at every row, (N,): new effects of all levels, or the given ``effects``.

    effects: (m_f, k_f) for each grouping factor.
    """
    if panel.several:
        return simulate_crossed(model, theta, panel, generator, effects)
    own = None if effects is None else effects[0]
    return simulate_panel(model, theta, panel, generator, own)


def simulate_panel(
    model: Model,
    theta: Theta,
    panel: Panel,
    generator: torch.Generator,
    effects: Tensor | None = None,
    outcome: int = 0,
) -> Tensor:
    """One outcome at every row of it, (N,): new b_i ~ N(0, I), or given ``effects`` (n, k)."""
    ready, own, panel = model.prepare(theta), model.outcomes[outcome], panel.panels[outcome]
    y = torch.zeros(panel.n_rows, dtype=torch.float64)
    if effects is None:
        check_population(model)
        effects = torch.randn(panel.n, model.k, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        for block in panel.blocks():
            b, rows = effects[block.subjects], block.rows
            eta = own.mu1(ready, rows) + model.mu2(ready, b, rows, outcome=outcome)
            extra = model.extra(ready, rows, b, outcome)
            draw = own.family.simulate(eta, rows.data, extra, generator)
            y[block.index[block.mask]] = draw[block.mask]
    return y


def simulate_every(
    model: Model, theta: Theta, panel: Panel, generator: torch.Generator, effects: Tensor
) -> Panel:
    """The panel with all outcomes drawn given ``effects`` (n, k)."""
    drawn = [
        one.with_outcome(simulate_panel(model, theta, panel, generator, effects, o))
        for o, one in enumerate(panel.panels)
    ]
    return replace(drawn[0], beside=tuple(drawn[1:]))


def simulate_crossed(
    model: Model,
    theta: Theta,
    panel: Panel,
    generator: torch.Generator,
    effects: Sequence[Tensor] | None = None,
) -> Tensor:
    """y for every row of a panel with several grouping factors, (N,): new effects of all levels,

    or the given ``effects``, (m_f, k_f) for each factor.
    """
    rows, ready = panel.rows, model.prepare(theta)
    dims = [latent.dim for latent in model.latents]
    factors = panel.factors(len(dims))
    if effects is None:
        sizes = [(len(one.labels), sum(dims[term] for term in one.terms)) for one in factors]
        effects = [torch.randn(*size, generator=generator, dtype=torch.float64) for size in sizes]
    b = effects_of_rows(factors, effects, rows.level, dims)
    with torch.no_grad():
        each = rows.take(torch.arange(panel.n_rows)[:, None])  # every row by itself
        eta = model.mu1(ready, rows) + model.mu2(ready, b, each)[:, 0]
        return model.family.simulate(eta, rows.data, model.extra(ready, rows), generator)
