"""Cutting a formula into pieces: brackets, quotes, summands, arguments, and errors with a caret.

Where a bar, a `dnn()` or an `offset()` begins and ends is said here; the operators of linear terms
(`*`, `:`, `/`, `^`) are those of algebra.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

_OPENING = {"(": ")", "[": "]", "{": "}"}
_WORD = re.compile(r"[\w.]")
_NAME = re.compile(r"[^\W\d][\w.]*")
_SHOWN = 400
"""Characters of a formula that an error shows, and that are remembered once they are read."""
MOST_LONG = 500_000
"""Characters of a formula."""
MOST_DEEP = 100
"""Brackets within brackets, and levels of operators within one expression."""
CONSTANTS = ("not", "True", "False", "None")
"""Words that are no names unless they stand in back-quotes."""


class FormulaError(ValueError):
    """A formula that cannot be read: says what is wrong, where, and what would be right."""

    def __init__(self, message: str, formula: str = "", start: int = -1, length: int = 1):
        self.formula, self.start = formula, start
        if start >= 0:
            message = f"{message}\n{_pointed(formula, start, max(length, 1))}"
        super().__init__(message)


def _pointed(formula: str, start: int, length: int) -> str:
    """The formula with carets below a part of it; of a long one what stands around that part."""
    if len(formula) > _SHOWN:
        first = max(0, start - _SHOWN // 4)
        shown = formula[first : first + _SHOWN]
        before, after = "..." * (first > 0), "..." * (first + _SHOWN < len(formula))
        start, length = start - first + len(before), min(length, _SHOWN)
        formula = f"{before}{shown}{after}"
        length = min(length, len(formula) - start)
    return f"  {formula}\n  {' ' * start}{'^' * length}"


@dataclass(frozen=True)
class Piece:
    """A part of a formula that remembers where it stands, so that an error can point at it."""

    text: str
    start: int
    whole: str

    def part(self, start: int, stop: int | None = None) -> Piece:
        """Return text[start:stop] without surrounding blanks."""
        cut = self.text[start:stop]
        blanks = len(cut) - len(cut.lstrip())
        return Piece(cut.strip(), self.start + start + blanks, self.whole)

    def error(self, message: str) -> FormulaError:
        """Return (not raise) an error whose caret underlines this piece."""
        return FormulaError(message, self.whole, self.start, len(self.text))


@dataclass(frozen=True)
class Summand:
    """One signed term of a sum."""

    sign: str
    piece: Piece


class Symbol(NamedTuple):
    """A character outside quotes, with the brackets around it: "(" a bracket, "f" a call."""

    position: int
    character: str
    inside: str


def whole_piece(text: str) -> Piece:
    """Return the formula as one piece, blanks of any kind (line ends too) made plain spaces."""
    if not isinstance(text, str):
        raise FormulaError(f"a formula is a string like 'y ~ x + (1 | id)', not {type(text)}")
    if len(text) > MOST_LONG:
        raise FormulaError(f"a formula has at most {MOST_LONG:,} characters, not {len(text):,}")
    plain = re.sub(r"\s", " ", text).strip()
    return Piece(plain, 0, plain)


def symbols(piece: Piece) -> Sequence[Symbol]:
    """Return the characters outside quotes and back-quotes; brackets must match."""
    return _read(piece) if len(piece.whole) <= _SHOWN else tuple(_symbols(piece))


@lru_cache(maxsize=1024)
def _read(piece: Piece) -> tuple[Symbol, ...]:
    return tuple(_symbols(piece))


def _symbols(piece: Piece) -> Iterator[Symbol]:
    stack: list[tuple[str, int, str]] = []
    quote, quoted_at, before = "", 0, ""
    for position, character in enumerate(piece.text):
        if quote:
            quote = "" if character == quote else quote
            before = "a"
            continue
        if character in "\"'`":
            quote, quoted_at = character, position
            continue
        if stack and character == stack[-1][0]:
            stack.pop()
        elif character in ")]}":
            raise piece.part(position, position + 1).error(f"`{character}` closes nothing")
        yield Symbol(position, character, "".join(mark for _, _, mark in stack))
        if character in _OPENING:
            if len(stack) == MOST_DEEP:
                message = f"the brackets are nested more than {MOST_DEEP} deep"
                raise piece.part(position, position + 1).error(message)
            mark = "f" if character == "(" and _WORD.match(before or " ") else character
            stack.append((_OPENING[character], position, mark))
        before = character if character != " " else before
    if quote:
        raise piece.part(quoted_at, quoted_at + 1).error(f"the quote {quote} is not closed")
    if stack:
        _, position, _ = stack[-1]
        raise piece.part(position, position + 1).error("this bracket is not closed")


def split(piece: Piece, separators: str) -> list[tuple[str, Piece]]:
    """Cut at the separators that stand outside all brackets: [(separator before, piece), ...]."""
    parts, begin, before = [], 0, ""
    for symbol in symbols(piece):
        if not symbol.inside and symbol.character in separators:
            parts.append((before, piece.part(begin, symbol.position)))
            begin, before = symbol.position + 1, symbol.character
    return [*parts, (before, piece.part(begin))]


def summands(piece: Piece) -> list[Summand]:
    """Cut a right-hand side into signed terms; `a + -b` is `a - b`."""
    found, sign = [], "+"
    parts = split(piece, "+-")
    for index, (operator, part) in enumerate(parts):
        sign = "-" if (operator == "-") != (sign == "-") else "+"
        if part.text:
            found.append(Summand(sign, part))
            sign = "+"
        elif index == len(parts) - 1 and index > 0:
            raise piece.error(f"nothing follows the last `{operator}`")
    return found


def sides(whole: Piece) -> tuple[Piece, Piece]:
    parts = [part for _, part in split(whole, "~")]
    if len(parts) != 2:
        found = "no `~`" if len(parts) == 1 else "more than one `~`"
        raise whole.error(f"a formula reads `outcome ~ terms`; {found} here")
    left, right = parts
    if not left.text:
        raise whole.error("the outcome is missing left of `~`")
    if not right.text:
        raise whole.error("nothing stands right of `~`; write `1` for an intercept alone")
    return left, right


def bars(piece: Piece) -> list[Symbol]:
    """Return the bars of a piece that mean "grouped by": all but those inside a call."""
    return [s for s in symbols(piece) if s.character == "|" and "f" not in s.inside]


def bracketed(piece: Piece) -> Piece | None:
    """Return what is inside when one pair of round brackets holds the whole piece."""
    if not (piece.text.startswith("(") and piece.text.endswith(")")):
        return None
    inner = [s for s in symbols(piece) if not s.inside]
    return piece.part(1, len(piece.text) - 1) if len(inner) == 2 else None


def called(piece: Piece) -> tuple[str, Piece] | None:
    """Return (name, arguments) when the piece is one call `name(arguments)`, else None."""
    match = re.match(r"([^\W\d][\w.]*)\s*\(", piece.text)
    if match is None:
        return None
    rest = piece.part(match.end() - 1)
    inside = bracketed(rest)
    return None if inside is None else (match.group(1), inside)


def calls_within(piece: Piece, name: str) -> bool:
    """Say whether `name(` stands anywhere in the piece outside quotes."""
    return re.search(rf"(?<![\w.]){name}\s*\(", unquoted(piece)) is not None


def unquoted(piece: Piece) -> str:
    """Return the text with blanks in place of all quotes and what stands in them."""
    plain = [" "] * len(piece.text)
    for symbol in symbols(piece):
        plain[symbol.position] = symbol.character
    return "".join(plain)


def name_text(name: str) -> str:
    """Return a column name as it is written in a formula: odd names in back-quotes."""
    return name if _NAME.fullmatch(name) and name not in CONSTANTS else f"`{name}`"


def plain_name(text: str) -> str | None:
    """Return the column name a text consists of (back-quotes taken off), else None."""
    if re.fullmatch(r"`[^`]+`", text):
        return text[1:-1]
    return text if _NAME.fullmatch(text) and text not in CONSTANTS else None
