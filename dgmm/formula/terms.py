"""What a formula consists of once it is read, and the algebra of its linear terms.

The operators `*`, `:`, `/`, `^` and `-` are formulaic's; here it only sees text without bars,
networks and offsets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from formulaic.errors import FormulaicError
from formulaic.parser import DefaultFormulaParser
from formulaic.parser.types import Term

from dgmm.formula.grammar import Piece, Summand, bars, calls_within, plain_name, split, symbols
from dgmm.formula.syntax import Syntax

_PARSER = DefaultFormulaParser(include_intercept=False)


@dataclass(frozen=True)
class Response:
    """The left-hand side: one expression, or two for `cbind(success, failure)` and `a / b`."""

    text: str
    kind: str  # "plain", "cbind" or "ratio"
    parts: tuple[str, ...]


@dataclass(frozen=True)
class NetworkTerm:
    """`dnn(age, sex)` among the fixed terms: a network of its inputs."""

    text: str
    inputs: str
    hidden: tuple[int, ...] = (32, 32)
    activation: str = "tanh"
    ridge: float | None = None


@dataclass(frozen=True)
class LatentTerm:
    """`(T | group)`: what varies between the levels of a grouping factor, and how."""

    text: str
    kind: str
    terms: str
    group: str
    covariance: str = "full"
    basis: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  # those of its word, as given
    syntax: Syntax = field(default_factory=Syntax)  # of its word
    target: str = ""  # "" the mean; else the part ("zi") whose predictor it enters


@dataclass(frozen=True)
class Part:
    """`zi="~ z + (1 | id)"`: the fixed terms of a predictor other than that of the mean."""

    name: str  # "zi" or "dispersion"
    text: str
    fixed: str


@dataclass(frozen=True)
class Formula:
    """A formula taken apart; `fixed` and every `terms` carry their intercept rule (1 + or 0 +)."""

    text: str
    response: Response
    fixed: str
    networks: tuple[NetworkTerm, ...] = ()
    latents: tuple[LatentTerm, ...] = ()
    offsets: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()


@lru_cache(maxsize=256)
def linear_terms(text: str) -> tuple[Term, ...]:
    """Expand `1 + a * b` by formulaic's algebra: the terms by degree, `1` the intercept."""
    return tuple(sorted(_PARSER.get_terms(text), key=lambda term: term.degree))


def formula_text(formula: Formula) -> str:
    """Write a formula out of its parts."""
    parts = [
        formula.fixed,
        *(term.text for term in formula.networks),
        *(f"offset({text})" for text in formula.offsets),
        *(term.text for term in formula.latents if not term.target),
    ]
    return f"{formula.response.text} ~ {' + '.join(parts)}"


def split_group(group: str) -> tuple[str, ...]:
    """Return the column names of a group: "school:class" -> ("school", "class")."""
    return tuple(plain_name(part.text) or "" for _, part in split(Piece(group, 0, group), ":"))


def check_linear(term: Summand, words: Sequence[str]) -> None:
    """Refuse what the linear algebra of formulaic would take for something else."""
    piece = term.piece
    for word in words:
        if calls_within(piece, word):
            raise piece.error(f"{word}() must be a term of its own, not inside a product or call")
    if bars(piece):
        raise piece.error("`|` belongs to a random part of its own, like (1 + x | id)")
    constant = piece.text[0] in "'\"" or re.fullmatch(r"[\d.]*\d[\d.]*", piece.text)
    if constant and piece.text not in ("0", "1"):
        raise piece.error("a constant is no term; only 1 and 0 (intercept or not) are")
    if any(s.character in "[{" and "f" not in s.inside for s in symbols(piece)):
        raise piece.error("only round brackets group terms")
    if "%" in piece.text:
        raise piece.error("%in% is not known here; write `a:b`")
    if piece.text != "." and re.search(r"(?<![\w.`])\.(?![\w.`])", piece.text):
        raise piece.error("`.` (all other columns) can only be a term of its own")


def intercept_of(terms: Sequence[Summand]) -> bool | None:
    """Return what the sum says about its intercept: True, False, or None when it is silent."""
    said = None
    for term in terms:
        if term.piece.text in ("0", "1"):
            said = (term.piece.text == "1") == (term.sign == "+")
    return said


def linear_text(terms: Sequence[Summand], default: bool) -> str:
    said = intercept_of(terms)
    first = "1" if (default if said is None else said) else "0"
    kept = [term for term in terms if term.piece.text not in ("0", "1")]
    return first + (join_terms(kept, leading=True) if kept else "")


def join_terms(terms: Sequence[Summand], leading: bool = False) -> str:
    text = "".join(f" {term.sign} {term.piece.text}" for term in terms)
    return text if leading else text.removeprefix(" + ")


def check_algebra(text: str, piece: Piece) -> None:
    try:
        linear_terms(re.sub(r"(?<=[+-] )\.(?= |$)", "dot", text))
    except (FormulaicError, SyntaxError) as error:
        plain = re.sub(r"\x1b\[[\d;]*m|⧛|⧚", "", str(error)).split("\n")[0]
        raise piece.error(f"`{text}` cannot be read as terms: {plain}") from error
