"""Draws of outcomes from the joint density p(b) p(y | b)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dgmm.model.density import Model
from dgmm.model.joint import led_by, led_panel, led_theta
from dgmm.outcomes import Residual
from dgmm.panel import Block, Panel, common_rows, effects_of_rows, ranks, together
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
    *,
    given: bool = False,
) -> Tensor:
    """The first outcome at every row, (N,): new b_i ~ N(0, I), or given ``effects`` (n, k).

    given: random parts that read outcomes read those of the panel, where they were seen, and not
    those drawn.
    """
    ready = model.prepare(theta)
    y = torch.zeros(panel.n_rows, dtype=torch.float64)
    if effects is None:
        check_population(model)
        effects = torch.randn(panel.n, model.k, generator=generator, dtype=torch.float64)
    if model.reads and not given:
        return _one_after_another(model, ready, panel, generator, effects)[0]
    with torch.no_grad():
        for block in panel.blocks():
            b, rows = effects[block.subjects], block.rows
            told = _seen(panel, block)
            at = model.at(ready, b, block, told)
            eta = model.mu1(ready, rows) + model.mu2(at, b, rows, seen=told[0])
            draw = model.family.simulate(eta, rows.data, model.extra(ready, rows, b), generator)
            y[block.index[block.mask]] = draw[block.mask]
    return y


def _seen(panel: Panel, block: Block) -> list[Tensor]:
    """Rows of a block whose outcome was seen, (n, J) bool for every outcome."""
    pairs = zip(panel.panels, block.blocks, strict=True)
    return [own.mask & one.observed[own.index] for one, own in pairs]


def _one_after_another(
    model: Model, ready: Theta, panel: Panel, generator: torch.Generator, effects: Tensor
) -> list[Tensor]:
    """Rows of all outcomes after those before them, which their random part reads, (N_k,) each."""
    y = [torch.zeros(one.n_rows, dtype=torch.float64) for one in panel.panels]
    beside = tuple(replace(one, masked=False) for one in panel.beside)
    with torch.no_grad():
        for block in replace(panel, masked=False, beside=beside).blocks():
            b, fixed = effects[block.subjects], model.fixed(ready, block)
            own = list(block.blocks)
            time = together([one.rows.time for one in own], [one.there for one in own])
            turns = ranks(time)
            for turn in range(1 + max(int(one.max()) for one in turns)):
                before = [one.mask & (at < turn) for one, at in zip(own, turns, strict=True)]
                now = replace(own[0], beside=tuple(own[1:]))
                told = model.at(ready, b, now, before)
                for o, (one, at) in enumerate(zip(list(own), turns, strict=True)):
                    outcome, rows = model.outcomes[o], one.rows
                    mu2 = model.mu2(told, b, rows, outcome=o, seen=before[o])
                    extra = model.extra(ready, rows, b, o)
                    drawn = outcome.family.simulate(fixed[o] + mu2, rows.data, extra, generator)
                    values = torch.where(at == turn, drawn, rows.data.y)
                    own[o] = replace(one, rows=replace(rows, data=rows.data._replace(y=values)))
            for found, one in zip(y, own, strict=True):
                found[one.index[one.mask]] = one.rows.data.y[one.mask]
    return y


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


def simulate_every(
    model: Model,
    theta: Theta,
    panel: Panel,
    generator: torch.Generator,
    effects: Tensor,
    *,
    given: bool = False,
) -> list[Tensor]:
    """All outcomes at every row, (N_k,) each, given ``effects`` (n, k).

    given: correlated residuals are drawn given those of outcomes seen on the same row, and random
    parts that read outcomes read those that were seen.
    """
    if model.reads and not given:
        return _one_after_another(model, model.prepare(theta), panel, generator, effects)
    found = []
    for o in range(len(model.outcomes)):
        own, known, rows = led_by(model, o), led_theta(model, theta, o), led_panel(panel, o)
        found.append(simulate_panel(own, known, rows, generator, effects, given=given))
    if model.residual is None:
        return found
    together = _simulate_together(model, model.residual, theta, panel, generator, effects, given)
    return [together.get(o, y) for o, y in enumerate(found)]


def _simulate_together(
    model: Model,
    residual: Residual,
    theta: Theta,
    panel: Panel,
    generator: torch.Generator,
    effects: Tensor,
    given: bool,
) -> dict[int, Tensor]:
    """The outcomes whose residuals are correlated, by their place in the model."""
    at, ready = residual.among(model.outcomes), model.prepare(theta)
    mean = {o: torch.zeros(panel.panels[o].n_rows, dtype=torch.float64) for o in at}
    scale = {o: torch.ones_like(value) for o, value in mean.items()}
    with torch.no_grad():
        for block in panel.blocks():
            fixed, b = model.fixed(ready, block), effects[block.subjects]
            for o in at:
                own, family = block.blocks[o], model.outcomes[o].family
                eta = fixed[o] + model.mu2(ready, b, own.rows, outcome=o)
                extra = model.extra(ready, own.rows, b, o)
                spread = family.variance(eta, own.rows.data, extra).sqrt()
                mean[o][own.index[own.mask]] = eta[own.mask]
                scale[o][own.index[own.mask]] = spread[own.mask]
    _, table = common_rows([panel.panels[o] for o in at])
    e = torch.zeros(table.shape, dtype=torch.float64)
    known = torch.zeros(table.shape, dtype=torch.bool)
    for k, o in enumerate(at if given else ()):
        y, rows = panel.panels[o].rows.data.y, table[:, k].clamp(min=0)
        known[:, k] = (table[:, k] >= 0) & panel.panels[o].observed[rows]
        e[:, k] = torch.nan_to_num((y - mean[o]) / scale[o])[rows]
    e = residual.drawn(theta, e, known, generator)
    found = {}
    for k, o in enumerate(at):
        rows = torch.nonzero(table[:, k] >= 0)[:, 0]
        noise = torch.zeros_like(mean[o])
        noise[table[rows, k]] = e[rows, k]
        found[o] = mean[o] + scale[o] * noise
    return found
