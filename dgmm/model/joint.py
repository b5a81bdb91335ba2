"""Several outcomes in one model: joined from a model of each, and seen from any of them.

The first outcome has the parameters "beta", "extra"; those of another carry its name in front,
"(lonely)beta". :func:`led_by` puts another one first, so that whatever is about the first outcome
can be asked of every one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dgmm.design import label_key
from dgmm.latent import Latent
from dgmm.latent.several import Joined, Loaded
from dgmm.model.density import Model
from dgmm.model.structure import Entry
from dgmm.outcomes import Longitudinal
from dgmm.panel import Panel
from dgmm.parameters import Theta

__all__ = [
    "Part",
    "alone",
    "alone_panel",
    "join",
    "join_panels",
    "key_of",
    "led_by",
    "led_panel",
    "led_theta",
    "within",
    "without",
]


@dataclass(frozen=True)
class Part:
    """A random part of one outcome, and the name under which others have it too ("" none)."""

    outcome: int
    latent: int  # among those of its outcome
    name: str = ""
    loaded: bool = False  # it takes the part of another outcome times a loading


def key_of(name: str) -> str:
    """What stands in front of the parameters of an outcome that is not the first."""
    return f"({name})"


def join(
    names: Sequence[str],
    models: Sequence[Model],
    parts: Sequence[Sequence[Part]],
    above: Model | None = None,
) -> Model:
    """One model of several outcomes, from a model of each.

    parts: per random part of the joint model the parts that it is made of, one per outcome: neural
        ones first, those that take another one last.
    above: a joint model with networks, of which the one asked for is the classical one within.
    """
    outcomes = tuple(
        replace(one.outcome, name=name, key=key_of(name) if o else "")
        for o, (name, one) in enumerate(zip(names, models, strict=True))
    )
    latents: list[Latent] = []
    for i, own in enumerate(parts):
        found = {
            names[one.outcome]: models[one.outcome].latents[one.latent]
            for one in own
            if not one.loaded
        }
        over = above.latents[i].beneath if above else across
        latent = over(own[0].name, found)
        taken = {names[one.outcome]: models[one.outcome].unit for one in own if one.loaded}
        if taken:
            unit = models[own[0].outcome].unit
            latent = Loaded.of(latent, {name: its / unit for name, its in taken.items()})
        latents.append(latent)
    entries = tuple(tuple(_entry(models[one.outcome], one) for one in own) for own in parts)
    ridges = tuple(models[own[0].outcome].latent_ridge[own[0].latent] for own in parts)
    free: list[str] = []
    for o, (outcome, one) in enumerate(zip(outcomes, models, strict=True)):
        free += [f"{outcome.key}{n}" for n in one.open_ridge if not n.startswith("latent")]
        for i, own in enumerate(parts, 1):
            if own[0].outcome == o and f"latent{own[0].latent + 1}" in one.open_ridge:
                free.append(f"latent{i}")
    whitener = torch.block_diag(
        *(
            models[one.outcome].latents[one.latent].frame / models[one.outcome].unit
            for own in parts
            for one in own
            if not one.loaded
        )
    )
    return Model(outcomes, tuple(latents), entries, ridges, tuple(free), whitener)


def across(name: str, parts: Mapping[str, Latent]) -> Latent:
    """The structure ``name`` of several outcomes, from one of each; neural ones come first."""
    curved = {key: one for key, one in parts.items() if one.neural}
    plain = {key: one for key, one in parts.items() if not one.neural}
    paths = [key for key, one in parts.items() if one.serial]
    if paths and curved and plain:
        other = next(key for key in plain if key not in paths)
        raise ValueError(
            f"{parts[paths[0]].label} of `{paths[0]}` shares a name with {parts[other].label} of "
            f"`{other}`: a path is shared by outcomes that all have it"
        )
    found = [type(next(iter(own.values()))).across(name, own) for own in (curved, plain) if own]
    return found[0] if len(found) == 1 else Joined(name, *found)


def _entry(model: Model, one: Part) -> Entry:
    return Entry(one.outcome, model.entries[one.latent][0].predictor)


def join_panels(panels: Sequence[Panel], parts: Sequence[Sequence[Part]]) -> Panel:
    """One panel of the subjects of all, in the order of the first; rows of each outcome apart."""
    ids, known = list(panels[0].ids.tolist()), {label_key(one) for one in panels[0].ids.tolist()}
    for panel in panels[1:]:
        for one in panel.ids.tolist():
            if label_key(one) not in known:
                known.add(label_key(one))
                ids.append(one)
    labels = np.array(ids, dtype=panels[0].ids.dtype if len(ids) == panels[0].n else object)
    found = []
    for o, panel in enumerate(panels):
        placed = [next((p.latent for p in own if p.outcome == o), None) for own in parts]
        none, rows = panel.rows.X[:, :0], panel.rows
        T = tuple(none if at is None else rows.T[at] for at in placed)
        basis = tuple(none if at is None else rows.basis[at] for at in placed)
        own = replace(panel, rows=replace(rows, T=T, basis=basis))
        found.append(own if panel.n == len(ids) and panel.ids is labels else own.align(labels))
    return replace(found[0], beside=tuple(found[1:]))


def without(model: Model, i: int, latent: Latent, left: str) -> Model:
    """The model with another structure in the i-th (0, 1, ...) place, out of one outcome."""
    names = [one.name for one in model.outcomes]
    entries = list(model.entries)
    entries[i] = tuple(entry for entry in entries[i] if names[entry.outcome] != left)
    latents = (*model.latents[:i], latent, *model.latents[i + 1 :])
    return replace(model, latents=latents, entries=tuple(entries))


# -- seen from one outcome -----------------------------------------------------------------------


def within(model: Model, panel: Panel) -> Panel:
    """The rows of the first outcome by itself as a panel of the model, the other outcomes unseen.

    Random parts that do not enter the outcome have no columns there. Where all do it is the panel
    itself.
    """
    if all(any(entry.outcome == 0 for entry in entries) for entries in model.entries):
        return panel
    columns = iter(zip(panel.rows.T, panel.rows.basis, strict=True))
    nothing = panel.rows.X[:, :0]
    found = [
        next(columns) if any(entry.outcome == 0 for entry in entries) else (nothing, nothing)
        for entries in model.entries
    ]
    T, basis = zip(*found, strict=True)
    return replace(panel, rows=replace(panel.rows, T=T, basis=basis))


def alone(model: Model, o: int) -> Model:
    """The model of one outcome by itself, with what its random parts are there."""
    outcome = replace(model.outcomes[o], key="", name="", shared=())
    name = model.outcomes[o].name
    own = [i for i, entries in enumerate(model.entries) if any(e.outcome == o for e in entries)]
    return Model(
        (outcome,),
        tuple(model.latents[i].alone(name) for i in own),
        tuple(
            tuple(Entry(0, e.predictor) for e in model.entries[i] if e.outcome == o) for i in own
        ),
        tuple(model.latent_ridge[i] for i in own),
        (),
        model.whitener,
    )


def alone_panel(model: Model, panel: Panel, o: int) -> Panel:
    """The rows of one outcome with the columns of its own random parts, for ``alone(model, o)``."""
    one = panel.panels[o]
    own = [i for i, entries in enumerate(model.entries) if any(e.outcome == o for e in entries)]
    T, basis = (tuple(some[i] for i in own) for some in (one.rows.T, one.rows.basis))
    return replace(one, rows=replace(one.rows, T=T, basis=basis), beside=())


def led_by(model: Model, o: int) -> Model:
    """The same model with another outcome in front."""
    if o == 0:
        return model
    order = _order(len(model.outcomes), o)
    place = {old: new for new, old in enumerate(order)}
    outcomes: tuple[Longitudinal, ...] = tuple(
        replace(model.outcomes[old], key=key_of(model.outcomes[old].name) if new else "")
        for new, old in enumerate(order)
    )
    entries = tuple(
        tuple(Entry(place[e.outcome], e.predictor) for e in own) for own in model.entries
    )
    return replace(model, outcomes=outcomes, entries=entries)


def led_panel(panel: Panel, o: int) -> Panel:
    """The panel with the rows of another outcome in front."""
    if o == 0:
        return panel
    found = [replace(panel.panels[old], beside=()) for old in _order(len(panel.panels), o)]
    return replace(found[0], beside=tuple(found[1:]))


def led_theta(model: Model, theta: Mapping[str, Tensor], o: int) -> Theta:
    """The parameters of ``led_by(model, o)``, given those of ``model``."""
    if o == 0:
        return dict(theta)
    first, leader = model.outcomes[0], model.outcomes[o]
    named = {n: _renamed(n, first.name, leader.key) for n in theta}
    return {named[n]: value for n, value in theta.items()}


def _renamed(name: str, first: str, leader: str) -> str:
    if name.startswith(leader):
        return name.removeprefix(leader)
    if name.startswith(("latent", "residual", "(")):
        return name
    return f"{key_of(first)}{name}"


def _order(count: int, o: int) -> list[int]:
    return [o, *(other for other in range(count) if other != o)]
