"""Other options for the networks of a formula: `dnn(x, hidden=(8,))` made from `dnn(x)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dgmm.formula.grammar import (
    FormulaError,
    Piece,
    bars,
    bracketed,
    called,
    sides,
    split,
    summands,
    whole_piece,
)
from dgmm.formula.options import split_arguments

__all__ = ["has_network", "with_options", "with_own_options"]

SPLINES = ("ns", "bs", "poly")
OF_LATENTS = ("latent", "basis", "df")
"""Options that networks of the fixed part do not have."""

Change = tuple[int, int, str]  # from, to, new text


def has_network(text: str, part: str) -> bool:
    """Whether a formula has a dnn() in its "random" or its "fixed" part."""
    return bool(_networks(text)[part])


def with_options(text: str, options: Mapping[str, Any], parts: tuple[str, ...]) -> str:
    """The formula with some options of its networks changed.

    options: ``latent``, ``hidden``, ``ridge``, ``basis`` as in the formula; ``df`` changes the
        degrees of freedom of the spline (ns, bs, poly) within a random dnn().
    parts: "random", "fixed" or both; latent, basis and df are for the random ones alone.
    """
    found, changes = _networks(text), []
    for part in parts:
        for network in found[part]:
            for name, value in options.items():
                if part == "random" or name not in OF_LATENTS:
                    changes.append(_change(network, name, value))
    return _spliced(whole_piece(text).text, changes)


def with_own_options(text: str, each: Sequence[Mapping[str, Any]]) -> str:
    """The formula with some options of its random networks changed, each its own, in order."""
    changes = [
        _change(network, name, value)
        for network, options in zip(_networks(text)["random"], each, strict=True)
        for name, value in options.items()
    ]
    return _spliced(whole_piece(text).text, changes)


def _networks(text: str) -> dict[str, list[Piece]]:
    """The arguments of every dnn() by the part it belongs to."""
    found: dict[str, list[Piece]] = {"random": [], "fixed": []}
    for term in summands(sides(whole_piece(text))[1]):
        inside, part = bracketed(term.piece), "fixed"
        pieces = [term.piece]
        if inside is not None and bars(term.piece):
            part = "random"
            pieces = [one.piece for one in summands(split(inside, "|")[0][1])]
        calls = [call for call in map(called, pieces) if call is not None]
        found[part] += [arguments for word, arguments in calls if word == "dnn"]
    return found


def _change(arguments: Piece, name: str, value: Any) -> Change:
    inputs, given = split_arguments(arguments)
    if name == "df":
        return _degrees(inputs, arguments, int(value))
    new = value if name == "basis" else repr(value)
    if name in given:
        old = given[name]
        return old.start, old.start + len(old.text), new
    end = arguments.start + len(arguments.text)
    return end, end, f", {name}={new}"


def _degrees(inputs: list[Piece], arguments: Piece, df: int) -> Change:
    """The second argument of the one spline among the inputs."""
    for one in inputs:
        for term in summands(one):
            call = called(term.piece)
            if call is None or call[0] not in SPLINES:
                continue
            pieces, named = split_arguments(call[1])
            old = named.get("df", pieces[1] if len(pieces) > 1 else None)
            if old is not None:
                return old.start, old.start + len(old.text), str(df)
    raise FormulaError(
        "df= changes the degrees of freedom of ns(), bs() or poly() within dnn(); there is none, "
        "as in dnn(ns(time, 4))",
        arguments.whole,
        arguments.start,
        len(arguments.text),
    )


def _spliced(text: str, changes: list[Change]) -> str:
    """Apply from right to left; of insertions at one place the first stays first."""
    for first, last, new in sorted(changes, key=lambda change: change[0])[::-1]:
        text = text[:first] + new + text[last:]
    return text
