"""A checkpoint belongs to one fit: its formula, its columns and its options."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import numpy as np

from dgmm.design import Design, label_key
from dgmm.estimate.control import Control
from dgmm.estimate.records import Estimate
from dgmm.runtime.checkpoint import Checkpoint

__all__ = ["checkpoint_for", "checkpoint_of_more"]

INDIFFERENT = ("checkpoint", "checkpoint_every", "workers")
"""Options of control that change no number."""


def checkpoint_for(
    control: Control, design: Design, words: Mapping[str, str], versions: Mapping[str, str]
) -> Checkpoint | None:
    """The checkpoint that ``control`` names, None without one.

    words: the arguments of the call that change what is estimated.

    Raises:
        ValueError: a path that cannot be written, or a file that is not the checkpoint of this fit.
    """
    if control.checkpoint is None:
        return None
    identity = {"formula": design.formula.text, **_columns(design), **words}
    identity |= {
        f"control {one.name}": repr(getattr(control, one.name))
        for one in fields(control)
        if one.name not in INDIFFERENT
    }
    identity |= {f"version of {name}": versions[name] for name in ("dgmm", "torch")}
    checkpoint = Checkpoint(Path(control.checkpoint), identity, control.checkpoint_every)
    checkpoint.check()
    return checkpoint


def checkpoint_of_more(
    path: str, done: Estimate, draws: int, words: Mapping[str, str], versions: Mapping[str, str]
) -> Checkpoint:
    """The checkpoint of chains that go on from where they stand.

    Raises:
        ValueError: a path that cannot be written, or a file of other chains or another number of
            draws.
    """
    assert done.chains is not None
    standing = [one.numpy() for _, one in sorted(done.chains.tensors.items())]
    identity = {**words, "where the chains stand": _digest(*standing), "draws": str(draws)}
    identity |= {f"version of {name}": versions[name] for name in ("dgmm", "torch")}
    checkpoint = Checkpoint(Path(path), identity)
    checkpoint.check()
    return checkpoint


def _columns(design: Design) -> dict[str, str]:
    """A digest of everything that the likelihood is made of, by name."""
    found = {
        f"outcome `{design.formula.response.text}`": _digest(design.y, design.trials),
        "weights": _digest(design.weights),
        "offset": _digest(design.offset),
        "time": _digest(np.asarray(design.time)),
    }
    for grouping in (latent.grouping for latent in design.latents):
        found[f"subjects `{grouping.name}`"] = _digest(
            grouping.codes, np.array([label_key(one) for one in grouping.levels])
        )
    blocks = [design.fixed, *design.parts.values()]
    blocks += [block.columns for block in design.networks]
    blocks += [block.columns for block in design.latents]
    blocks += [block.basis for block in design.latents if block.basis is not None]
    columns: dict[str, list[np.ndarray]] = {}
    for block in blocks:  # a variable may stand in several
        for name, column in zip(block.names, block.matrix.T, strict=True):
            columns.setdefault(name, []).append(column)
    return found | {f"column `{name}`": _digest(*own) for name, own in columns.items()}


def _digest(*columns: np.ndarray) -> str:
    digest = hashlib.sha256()
    for column in columns:
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()[:16]
