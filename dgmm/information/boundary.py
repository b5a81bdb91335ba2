"""Parameters at the edge of their range: variances of zero, extra ones without information."""

from __future__ import annotations

import numpy as np
import torch

from dgmm.information.records import reported_packing
from dgmm.latent import BOUNDARY, Boundary
from dgmm.likelihood import Point
from dgmm.outcomes import Longitudinal
from dgmm.panel import Rows
from dgmm.parameters import part

__all__ = ["boundary_reasons", "family_edges", "find_boundary", "sigma_unit"]

EDGE = 4.0
FLAT_INFORMATION = 0.02
"""An extra parameter beyond +-4 on its log or logit scale with less information is at its edge."""

SILENT = 1e-3
"""One with less information than this (a standard error above 30) is not known, wherever it is."""


def find_boundary(done: Point) -> tuple[tuple[str, ...], np.ndarray]:
    """Random effects without variance of their own, and the reported entries held fixed there."""
    packing = reported_packing(done.model)
    held = {name: torch.zeros(shape) for name, shape in packing.shapes.items()}
    names: list[str] = []
    for i, found in enumerate(_edges(done), 1):
        held |= {f"latent{i}.{name}": at.double() for name, at in found.held.items()}
        names += [_name(done, i - 1, one) for one in found.names]
    return tuple(names), packing.pack(held).numpy() > 0


def boundary_reasons(done: Point) -> tuple[str, ...]:
    """A clause about every parameter of the random part at an edge of its range.

    It begins with the term where the formula has several.
    """
    return tuple(
        f"{_where(done, term)}{reason}"
        for term, found in enumerate(_edges(done))
        for reason in found.reasons
    )


def _where(done: Point, term: int) -> str:
    """The words that name a term among several, with the part that it enters."""
    inside = done.model.part_of(term)
    several = len(done.model.latents) > 1
    part_ = f"{inside}= " if inside else ""
    return f"in {part_}{done.model.latents[term].label} " if several or inside else ""


def _edges(done: Point) -> list[Boundary]:
    """What of every random part is at an edge."""
    floor = BOUNDARY * sigma_unit(done)
    if "log_sigma" not in done.model.family.extra:  # a thousandth on the scale of the link
        floor = max(floor, 10 * BOUNDARY)
    return [
        latent.at_boundary(part(done.theta, f"latent{i}."), floor)
        for i, latent in enumerate(done.model.latents, 1)
    ]


def family_edges(done: Point, info: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Extra parameters that ran to an edge of their range, where the likelihood is flat in them.

    One that a part models has run there when it has in every row.
    """
    held, notes = np.zeros(len(info), dtype=bool), list[str]()
    for outcome, panel in zip(done.model.outcomes, done.observed.panels, strict=True):
        found, own = _edges_of(done, outcome, panel.rows, info)
        held, notes = held | found, notes + own
    return held, tuple(notes)


def _edges_of(
    done: Point, outcome: Longitudinal, rows: Rows, info: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """Those of one outcome."""
    held, notes, family = np.zeros(len(info), dtype=bool), [], outcome.family
    key = f"{outcome.key}extra"
    first = int(reported_packing(done.model).positions([key])[0]) if family.extra else 0
    words, designs = family.natural_names(), outcome.extra_designs(rows)
    starts = np.cumsum((0, *outcome.extra_sizes))
    for r, (name, word) in enumerate(zip(family.extra, words, strict=True)):
        noise = name == "log_sigma"
        if noise and not done.model.nondegenerate:
            continue
        own = slice(int(starts[r]), int(starts[r + 1]))
        coefficients = done.theta[key][own].detach()
        design = designs[r]
        Z = torch.ones(1, 1, dtype=torch.float64) if design is None else design
        value, size = (Z @ coefficients).numpy(), Z.square().mean(0).numpy()
        value = value - np.log(outcome.unit) if noise else value
        at = np.arange(first + own.start, first + own.stop)
        flat = bool((info[at, at] < FLAT_INFORMATION * size).all())
        if flat and (bool((value > EDGE).all()) or bool((value < -EDGE).all())):
            held[at] = True
            if noise:
                notes.append(
                    "boundary: sigma has run to zero, outcomes lie on the path. It is held there, "
                    "without a standard error; dispersion='~ 0' is the model without it"
                )
                continue
            side = "upper" if value[0] > 0 else "lower"
            notes.append(
                f"boundary: `{word}` of family {family.name!r} has run to the {side} end of "
                "its range, where the likelihood no longer depends on it. It is held there, "
                "without a standard error, and the other estimates are usable; a simpler family "
                "fits as well"
            )
        elif flat and bool((info[at, at] < SILENT * size).all()):
            held[at] = True
            notes.append(
                f"boundary: no outcome tells of `{word}` of family {family.name!r}. It is "
                "held where it is, without a standard error, and the other estimates are usable"
            )
    return held, notes


def _name(done: Point, term: int, column: str) -> str:
    """A column of T, with the part that it enters, and its grouping factor among several."""
    factors = done.panel.factors(len(done.model.latents))
    own = next(factor for factor in factors if term in factor.terms)
    inside = done.model.part_of(term)
    column = f"{inside}:{column}" if inside else column
    return f"{column} | {own.name}" if own.name else column


def sigma_unit(done: Point) -> float:
    """sigma in units of the model, for families that have one; else 1."""
    at = done.model.outcome.one_number("log_sigma")
    if at is None:
        return 1.0
    return float(done.theta["extra"][at].exp()) / done.model.unit
