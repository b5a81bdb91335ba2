"""Where tensors live: one function that moves whatever holds them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

__all__ = ["choose_device", "on", "to"]

WORDS = ("auto", "cpu", "cuda")

ENOUGH = 50_000
"""Measurements times draws in a mini-batch from which a graphics card is worth its calls."""

Held = TypeVar("Held")


def to(held: Held, device: torch.device | str, dtype: torch.dtype | None = None) -> Held:
    """The same tensors, tuples, dictionaries or records, with every tensor on ``device``.

    dtype: of the tensors of real numbers; by default they keep theirs.
    """

    def move(tensor: Tensor) -> Tensor:
        return tensor.to(device, dtype if tensor.is_floating_point() else None)

    result: Held = _each(held, move)
    return result


def _each(held: Any, move: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(held, Tensor):
        return move(held)
    if isinstance(held, dict):
        return {key: _each(value, move) for key, value in held.items()}
    if isinstance(held, tuple | list):
        moved = [_each(value, move) for value in held]
        return type(held)(*moved) if hasattr(held, "_fields") else type(held)(moved)
    if is_dataclass(held) and not isinstance(held, type):
        own = {f.name: getattr(held, f.name) for f in fields(held) if f.init}
        parts = {name: _each(value, move) for name, value in own.items()}
        changed = {name: value for name, value in parts.items() if value is not own[name]}
        return replace(held, **changed) if changed else held
    return held


def on(device: torch.device | str) -> AbstractContextManager[Any]:
    """Within: tensors that are made anew (identities, positions) are made on ``device``."""
    where = torch.device(device)
    return nullcontext() if where.type == "cpu" else where


def choose_device(word: str, cells: int) -> str:
    """The device of the ELBO stage: "auto" is "cuda" when there is one and work enough for it.

    cells: measurements times draws in one mini-batch.
    """
    if word not in WORDS:
        raise ValueError(f"device={word!r} is not one of {', '.join(WORDS)}")
    found = torch.cuda.is_available()
    if word == "cuda" and not found:
        raise ValueError(
            "device='cuda' needs a graphics card and a build of torch that knows it, and torch "
            "finds none here; leave device='auto'"
        )
    if word == "auto":
        return "cuda" if found and cells >= ENOUGH else "cpu"
    return word
