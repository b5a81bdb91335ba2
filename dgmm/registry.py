"""Open folders: the word a user writes is the file that answers to it."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Sequence
from typing import TypeVar

Base = TypeVar("Base")

__all__ = ["lookup", "members", "suggestion"]


def suggestion(word: str, known: Sequence[str]) -> str:
    """The end of a sentence: '; did you mean ...?' when a known word is near, else '.'."""
    spelled = {one.lower(): one for one in known}
    near = difflib.get_close_matches(word.lower(), list(spelled), n=1)
    return f"; did you mean {spelled[near[0]]!r}?" if near else "."


def members(package: str, base: type[Base]) -> dict[str, type[Base]]:
    """Every final subclass of ``base`` defined in the folder ``package``, keyed by its ``name``."""
    folder = importlib.import_module(package)
    found: dict[str, type[Base]] = {}
    for info in pkgutil.iter_modules(folder.__path__):
        module = importlib.import_module(f"{package}.{info.name}")
        for _, thing in inspect.getmembers(module, inspect.isclass):
            own = thing.__module__ == module.__name__
            if own and issubclass(thing, base) and not inspect.isabstract(thing):
                found[thing.name] = thing  # type: ignore[attr-defined]
    return found


def lookup(package: str, base: type[Base], word: str, what: str) -> type[Base]:
    """The class called ``word`` in an open folder, or an error that lists the folder."""
    known = members(package, base)
    if word not in known:
        raise ValueError(
            f"unknown {what} {word!r}{suggestion(word, list(known))} "
            f"Available: {', '.join(sorted(known))}."
        )
    return known[word]
