"""Lists and values inside a sentence, cut off where nobody reads on."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable

__all__ = ["listed", "shortened"]


def listed(items: Iterable[object], most: int = 10, separator: str = ", ") -> str:
    """Return `a, b, c`, or the first of them and how many there are in all."""
    texts = [str(item) for item in items]
    if len(texts) <= most:
        return separator.join(texts)
    return f"{separator.join(texts[:most])}{separator}... ({len(texts):,} in all)"


def shortened(value: object) -> str:
    """Return a value as it would be written, in one line."""
    return " ".join(reprlib.repr(value).split())
