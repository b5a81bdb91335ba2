"""The options of `dnn(..., hidden=(32,), latent=3)`: literals only, checked one by one."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any

from dgmm.formula.grammar import Piece, split

_FORMS = ("coefficients", "warped", "dense")


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


def latent_options(options: Mapping[str, Piece], piece: Piece) -> dict[str, Any]:
    """Read the options of a latent; `basis` stays a piece of formula text."""
    readers: dict[str, Callable[[Piece], Any]] = {
        "latent": _count,
        "hidden": _layers,
        "activation": _word,
        "form": _form,
        "basis": _basis,
        "ridge": _penalty,
    }
    chosen = _read(options, piece, readers)
    if chosen.get("form") == "dense" and "basis" in chosen:
        raise options["basis"].error(
            "basis= belongs to form='coefficients' or 'warped', not to 'dense'"
        )
    return chosen


def _read(
    options: Mapping[str, Piece], piece: Piece, readers: Mapping[str, Callable[[Piece], Any]]
) -> dict[str, Any]:
    for name in options:
        if name not in readers:
            near = difflib.get_close_matches(name, readers, 1)
            hint = f"; did you mean {near[0]}=?" if near else ""
            raise piece.error(f"no option {name}= here{hint} The options are: {', '.join(readers)}")
    return {name: readers[name](value) for name, value in options.items()}


def _literal(value: Piece) -> Any:
    try:
        return ast.literal_eval(value.text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise value.error("an option is a plain value, like 3, (32, 16) or 'tanh'") from error


def _layers(value: Piece) -> tuple[int, ...]:
    layers = _literal(value)
    if _is_count(layers):
        raise value.error(f"hidden= is a tuple of layer sizes: write hidden=({layers},)")
    if not isinstance(layers, (tuple, list)) or not all(_is_count(size) for size in layers):
        raise value.error("hidden= is a tuple of positive whole numbers, as in hidden=(32, 16)")
    return tuple(layers)


def _count(value: Piece) -> int:
    count = _literal(value)
    if not _is_count(count):
        raise value.error("latent= is a positive whole number, the dimension of b")
    return int(count)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _word(value: Piece) -> str:
    word = _literal(value)
    if not isinstance(word, str):
        raise value.error("activation= is a name in quotes, as in activation='tanh'")
    return word


def _form(value: Piece) -> str:
    form = _literal(value)
    if form not in _FORMS:
        raise value.error("form= is 'coefficients', 'warped' or 'dense'")
    return str(form)


def _penalty(value: Piece) -> float | None:
    ridge = _literal(value)
    if ridge is None:
        return None
    if isinstance(ridge, bool) or not isinstance(ridge, (int, float)) or not 0 <= ridge < 1e300:
        raise value.error("ridge= is a number, zero or larger")
    return float(ridge)


def _basis(value: Piece) -> Piece:
    """Take the basis as formula text, with or without quotes around it."""
    inner = value.part(1, -1) if value.text[:1] in ("'", '"') else value
    if not inner.text:
        raise value.error("basis= needs terms, as in basis=ns(time, 6)")
    return inner
