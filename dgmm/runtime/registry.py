"""Open folders: the word a user writes is the file that answers to it."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

Base = TypeVar("Base")

__all__ = ["lookup", "members", "misnamed", "suggestion"]


def suggestion(word: str, known: Sequence[str], meant: Mapping[str, str] | None = None) -> str:
    """The end of a sentence: '; did you mean ...?' when a known word is near, else '.'.

    meant: what other words, of other programs, stand for.
    """
    plain = re.sub(r"\W", "_", word)
    for spelling in (word, plain, plain.lower()):
        if meant and spelling in meant:
            return f"; did you mean {meant[spelling]!r}?"
    spelled = {one.lower(): one for one in known}
    near = difflib.get_close_matches(word.lower(), list(spelled), n=1)
    return f"; did you mean {spelled[near[0]]!r}?" if near else "."


def misnamed(option: str, known: Sequence[str], instead: Mapping[str, str] | None = None) -> str:
    """The end of a sentence about an argument that is not there: which is meant, which there are.

    instead: what to write for arguments of other packages.
    """
    near = difflib.get_close_matches(option.lower().replace(".", "_"), known, 1)
    hint = f"; did you mean {near[0]}=?" if near else "."
    if instead and option in instead:
        hint = f"; write {instead[option]}."
    return f"{option}={hint} It has {', '.join(known) or 'none'}."


def members(package: str, base: type[Base]) -> dict[str, type[Base]]:
    """Every final subclass of ``base`` defined in the folder ``package``, keyed by its ``name``."""
    found = (one for one in _classes(package) if issubclass(one, base))
    return {one.name: one for one in found}  # type: ignore[attr-defined]


@cache
def _classes(package: str) -> tuple[type[Any], ...]:
    """The classes defined in the modules of a folder, without abstract ones."""
    found: list[type[Any]] = []
    for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
        module = importlib.import_module(f"{package}.{info.name}")
        every = (thing for _, thing in inspect.getmembers(module, inspect.isclass))
        own = [thing for thing in every if thing.__module__ == module.__name__]
        found += [thing for thing in own if not inspect.isabstract(thing)]
    return tuple(found)


def lookup(
    package: str, base: type[Base], word: str, what: str, meant: Mapping[str, str] | None = None
) -> type[Base]:
    """The class called ``word`` in an open folder, or an error that lists the folder.

    meant: what other words, of other programs, stand for.
    """
    known = members(package, base)
    if word not in known:
        raise ValueError(
            f"unknown {what} {word!r}{suggestion(word, list(known), meant)} "
            f"Available: {', '.join(sorted(known))}."
        )
    return known[word]
