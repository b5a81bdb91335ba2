"""What the words of a random part may hold; plain data, as a saved fit is read again by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Syntax:
    """How a word is read, `(word(terms, option=value) | id)` or `word(terms | id, option=value)`.

    options: per option the kind of its value ("count", "size", which may be zero, "layers", "word",
        "penalty", "share", "terms", "flag"), or the words that it may be.
    neural: the word stands for a network.
    serial: the term is one numeric variable without intercept, in whose order the rows of a
        subject stand.
    """

    options: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    neural: bool = False
    serial: bool = False


NETWORK = Syntax(
    {
        "latent": "count",
        "hidden": "layers",
        "activation": "word",
        "form": ("coefficients", "warped", "dense", "auto"),
        "basis": "terms",
        "ridge": "penalty",
    },
    neural=True,
)
"""That of `dnn()`, which is a word on both sides of the bar."""
