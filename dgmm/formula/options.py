"""The options of `dnn(..., hidden=(32,), latent=3)`: literals only, checked one by one."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any

from dgmm.formula.grammar import Piece, split
from dgmm.formula.syntax import Syntax

_WIDEST, _DEEPEST = 4_096, 20
"""Units of a layer and layers of a network."""

Reader = Callable[[str, Piece], Any]
"""From the name of an option and its text to its value."""


def split_arguments(arguments: Piece) -> tuple[list[Piece], dict[str, Piece]]:
    """Split `age, sex, hidden=(32, 16)` into inputs and named options."""
    inputs: list[Piece] = []
    options: dict[str, Piece] = {}
    for _, part in split(arguments, ",") if arguments.text else []:
        if not part.text:
            raise arguments.error("an argument is empty: two commas in a row, or one at the end")
        match = re.match(r"(\w+)\s*=(?!=)", part.text)
        if match is None:
            inputs.append(part)
        elif match.group(1) in options:
            raise part.error(f"{match.group(1)}= is given twice")
        else:
            options[match.group(1)] = part.part(match.end())
    return inputs, options


def network_options(options: Mapping[str, Piece], piece: Piece) -> dict[str, Any]:
    """Read the options of a network among the fixed terms."""
    return _read(options, piece, {"hidden": _layers, "activation": _word, "ridge": _penalty})


def latent_options(options: Mapping[str, Piece], piece: Piece, syntax: Syntax) -> dict[str, Any]:
    """Read the options of a word; those of kind "terms" stay pieces of formula text."""
    readers = {name: _reader(kind) for name, kind in syntax.options.items()}
    chosen = _read(options, piece, readers)
    if chosen.get("form") == "dense" and "basis" in chosen:
        raise options["basis"].error(
            "basis= belongs to form='coefficients' or 'warped', not to 'dense'"
        )
    return chosen


def _reader(kind: str | tuple[str, ...]) -> Reader:
    readers: dict[str, Reader] = {
        "count": _count,
        "size": _size,
        "layers": _layers,
        "word": _word,
        "penalty": _penalty,
        "share": _share,
        "terms": _terms,
        "flag": _flag,
    }
    return readers[kind] if isinstance(kind, str) else _one_of(kind)


def _read(
    options: Mapping[str, Piece], piece: Piece, readers: Mapping[str, Reader]
) -> dict[str, Any]:
    for name in options:
        if name not in readers:
            near = difflib.get_close_matches(name, readers, 1)
            hint = f"; did you mean {near[0]}=?" if near else ""
            known = f"The options are: {', '.join(readers)}" if readers else "There are none."
            raise piece.error(f"no option {name}= here{hint or '.'} {known}")
    return {name: readers[name](name, value) for name, value in options.items()}


def _literal(value: Piece) -> Any:
    try:
        return ast.literal_eval(value.text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise value.error("an option is a plain value, like 3, (32, 16) or 'tanh'") from error


def _layers(name: str, value: Piece) -> tuple[int, ...]:
    layers = _literal(value)
    if _is_count(layers):
        raise value.error(f"{name}= is a tuple of layer sizes: write {name}=({layers},)")
    if not isinstance(layers, (tuple, list)) or not all(_is_count(size) for size in layers):
        raise value.error(f"{name}= is a tuple of positive whole numbers, as in {name}=(32, 16)")
    if len(layers) > _DEEPEST or any(size > _WIDEST for size in layers):
        raise value.error(f"{name}= has at most {_DEEPEST} layers of at most {_WIDEST:,} units")
    return tuple(layers)


def _count(name: str, value: Piece) -> int:
    count = _literal(value)
    if not _is_count(count):
        raise value.error(f"{name}= is a positive whole number")
    return int(count)


def _size(name: str, value: Piece) -> int:
    size = _literal(value)
    if not (_is_count(size) or (size == 0 and type(size) is int)):
        raise value.error(f"{name}= is a whole number, zero or larger")
    return int(size)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _word(name: str, value: Piece) -> str:
    word = _literal(value)
    if not isinstance(word, str):
        raise value.error(f"{name}= is a name in quotes, as in activation='tanh'")
    return word


def _one_of(words: tuple[str, ...]) -> Reader:
    """A reader that takes one of some words in quotes."""

    def read(name: str, value: Piece) -> str:
        word = _literal(value)
        if word not in words:
            listed = ", ".join(map(repr, words[:-1]))
            raise value.error(f"{name}= is {listed} or {words[-1]!r}")
        return str(word)

    return read


def _share(name: str, value: Piece) -> float:
    share = _literal(value)
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
        raise value.error(f"{name}= is a share, zero or larger and less than one")
    return float(share)


def _penalty(name: str, value: Piece) -> float | None:
    ridge = _literal(value)
    if ridge is None:
        return None
    if isinstance(ridge, bool) or not isinstance(ridge, (int, float)) or not 0 <= ridge < 1e300:
        raise value.error(f"{name}= is a number, zero or larger")
    return float(ridge)


def _flag(name: str, value: Piece) -> bool:
    """Read TRUE or FALSE, as R or as Python writes them."""
    if value.text.lower() not in ("true", "false"):
        raise value.error(f"{name}= is TRUE or FALSE")
    return value.text.lower() == "true"


def _terms(name: str, value: Piece) -> Piece:
    """Take an option as formula text, `~ x` or `x`, with or without quotes around it."""
    inner = value.part(1, -1) if value.text[:1] in ("'", '"') else value
    if inner.text[:1] == "~":
        inner = inner.part(1)
    if not inner.text:
        raise value.error(f"{name}= needs terms, as in {name}=ns(time, 6)")
    return inner
