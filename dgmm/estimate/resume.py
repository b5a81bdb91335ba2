"""What a checkpoint belongs to: the formula, the columns and the options of one call."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from dgmm.design import Design
from dgmm.runtime.checkpoint import Checkpoint

__all__ = ["checkpoint_for"]

INDIFFERENT = ("checkpoint", "checkpoint_every", "workers")
"""Options of control that change no number."""


def checkpoint_for(
    path: str | PathLike[str] | None,
    design: Design,
    call: Mapping[str, Any],
    versions: Mapping[str, str],
) -> Checkpoint | None:
    """The checkpoint of a call at ``path``, None without one."""
    if path is None:
        return None
    control = call["control"]
    identity = {"formula": design.formula.text, **_columns(design)}
    identity |= {name: repr(value) for name, value in call.items() if name not in ("control", "se")}
    identity |= {
        f"control {name}": repr(value) for name, value in control.items() if name not in INDIFFERENT
    }
    identity |= {f"version of {name}": versions[name] for name in ("dgmm", "torch")}
    return Checkpoint(Path(path), identity, control["checkpoint_every"])


def _columns(design: Design) -> dict[str, str]:
    """A digest of everything that the likelihood is made of, by name."""
    grouping = design.latents[0].grouping
    found = {
        f"outcome `{design.formula.response.text}`": _digest(design.y, design.trials),
        "weights": _digest(design.weights),
        "offset": _digest(design.offset),
        f"subjects `{grouping.name}`": _digest(grouping.codes, grouping.labels.astype(str)),
        "time": _digest(np.asarray(design.time)),
    }
    blocks = [design.fixed, *design.parts.values()]
    blocks += [block.columns for block in design.networks]
    blocks += [block.columns for block in design.latents]
    blocks += [block.basis for block in design.latents if block.basis is not None]
    for block in blocks:
        for name, column in zip(block.names, block.matrix.T, strict=True):
            found[f"column `{name}`"] = _digest(column)
    return found


def _digest(*columns: np.ndarray) -> str:
    digest = hashlib.sha256()
    for column in columns:
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()[:16]
