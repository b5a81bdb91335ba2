"""The parts of a formula once it is read, and the checks of its linear terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dgmm.formula.algebra import MOST_TERMS, AlgebraError, linear_terms
from dgmm.formula.grammar import Piece, Summand, bars, calls_within, plain_name, split, unquoted
from dgmm.formula.spelling import SpellingError
from dgmm.formula.syntax import Syntax

_OPERATORS = {
    "%in%": "write `a:b`",
    "%/%": "write I(a // b), the whole part of a quotient",
    "%%": "write I(a % b), the rest of a division",
}
"""Operators of R between percent signs, and what to write here."""


@dataclass(frozen=True)
class Response:
    """The left-hand side: one expression, or two for `cbind(success, failure)` and `a / b`."""

    text: str
    kind: str  # "plain", "cbind" or "ratio"
    parts: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The parts as tables call them: a column by its name, without back-quotes."""
        return tuple(plain_name(part) or part for part in self.parts)


@dataclass(frozen=True)
class NetworkTerm:
    """`dnn(age, sex)` among the fixed terms: a network of its inputs.

    Within `cre(id, ~ dnn(age))` one of their means over the rows of a level of its ``group``.
    """

    text: str
    inputs: str
    hidden: tuple[int, ...] = (32, 32)
    activation: str = "tanh"
    ridge: float | None = None
    group: str = ""


@dataclass(frozen=True)
class Given:
    """`cre(id, ~ x, scale=~ z)`: the rows that the distribution of a random effect is given.

    E(b | rows) is linear in ``terms``, by the ``device``: their means over the rows of a level
    ("mundlak"), or their values at every ``time`` ("chamberlain"). ``networks`` of the means add to
    it, and ``scale`` has the terms whose means make the standard deviation of b.
    """

    terms: str
    networks: tuple[NetworkTerm, ...] = ()
    device: str = "mundlak"
    time: str | None = None
    scale: str | None = None

    def text(self, group: str) -> str:
        """Write `cre(group, ~ terms)`."""
        terms = " + ".join([self.terms, *(network.text for network in self.networks)])
        parts = [group, f"~ {terms}"]
        if self.device != "mundlak":
            parts.append(f"device={self.device!r}")
        parts += [f"time={self.time}"] * (self.time is not None)
        parts += [f"scale=~ {self.scale}"] * (self.scale is not None)
        return f"cre({', '.join(parts)})"


@dataclass(frozen=True)
class LatentTerm:
    """`(T | group)`: what varies between the levels of a grouping factor, and how."""

    text: str
    kind: str
    terms: str
    group: str
    covariance: str = "us"  # of the columns: "diag" for `||`, else the word in front of the bar
    structure: Mapping[str, Any] = field(default_factory=dict)  # options of that word, as given
    own: Syntax = field(default_factory=Syntax)  # of that word
    basis: str | None = None  # of a network, or the inputs of a path
    usual: str = ""  # the variable of that basis where it is the default one, which nobody wrote
    options: Mapping[str, Any] = field(default_factory=dict)  # those of its word, as given
    syntax: Syntax = field(default_factory=Syntax)  # of its word
    target: str = ""  # "" the mean; else the part ("zi") whose predictor it enters
    shared: str = ""  # the name between the bars of `(T |name| group)`, of several outcomes
    given: Given | None = None  # of `(T | cre(group, ~ terms))`


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


def formula_text(formula: Formula) -> str:
    """Write a formula out of its parts."""
    parts = [
        formula.fixed,
        *(term.text for term in formula.networks if not term.group),
        *(f"offset({text})" for text in formula.offsets),
        *(term.text for term in formula.latents if not term.target),
    ]
    return f"{formula.response.text} ~ {' + '.join(parts)}"


def split_group(group: str) -> tuple[str, ...]:
    """Return the column names of a group: "school:class" -> ("school", "class")."""
    return tuple(plain_name(part.text) or "" for _, part in split(Piece(group, 0, group), ":"))


def check_count(terms: Sequence[Summand], piece: Piece) -> None:
    """Refuse more summands than terms can be, before any of them is looked at."""
    if len(terms) > MOST_TERMS:
        raise piece.error(f"{len(terms):,} terms are more than {MOST_TERMS:,}; leave some out")


def check_linear(term: Summand, words: Sequence[str], dot: bool = False) -> None:
    """Refuse a summand that is no sum of linear terms; with `dot` it may be `.` alone."""
    piece = term.piece
    for word in words:
        if calls_within(piece, word):
            raise piece.error(f"{word}() must be a term of its own, not inside a product or call")
    if bars(piece):
        raise piece.error("`|` belongs to a random part of its own, like (1 + x | id)")
    plain = unquoted(piece)
    for operator, instead in _OPERATORS.items():
        if operator in plain:
            raise piece.error(f"{operator} is not known here; {instead}")
    check_algebra(piece.text, piece)
    if not dot and "." in linear_terms(piece.text).factors:
        raise piece.error("`.` (all other columns) stands among the fixed terms alone")


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


def plain_sum(terms: Sequence[Summand], piece: Piece, none: str) -> str:
    """Join linear terms without an intercept into a sum; ``none``: the error where none is left."""
    for term in terms:
        check_linear(term, ("dnn", "offset"))
    kept = [term for term in terms if term.piece.text not in ("0", "1")]
    if not kept:
        raise piece.error(none)
    text = join_terms(kept)
    check_algebra(text, piece)
    return text


def check_algebra(text: str, piece: Piece) -> None:
    """Refuse, at this piece, a text that is no sum of linear terms."""
    try:
        linear_terms(text)
    except (AlgebraError, SpellingError) as error:
        raise piece.error(str(error)) from error
