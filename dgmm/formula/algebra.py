"""R's algebra of linear terms: `1 + (a + b)^2 - a:b` to distinct terms, in R's order.

    a + b     both                              a:b   their product
    a - b     a without the terms of b          a * b   a + b + a:b
    a / b     a, and b within a: a + a:b        a ^ n   products of up to n terms of a

Of increasing precedence + and -, * and /, :, ^ (or **), as in R. Terms stand by their degree, then
in the order in which they came; the expressions within a term in the order in which the formula
first names them, terms that it takes away included. Chambers and Hastie (1992), Statistical Models
in S, section 2.4.1.

A term is a set of expressions, kept as the bits of one whole number, so that sums and powers are
expanded to distinct terms and never to more than MOST_TERMS of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from dgmm.formula.grammar import FormulaError, Piece, symbols
from dgmm.formula.spelling import plain_code

__all__ = ["AlgebraError", "Terms", "linear_terms"]

MOST_TERMS = 10_000
_MOST_PRODUCTS = 2_000_000

_TOKEN = re.compile(
    r"(?P<name>[^\W\d][\w.]*|`[^`]+`)|(?P<number>\d[\w.]*|\.\d[\w.]*)"
    r"|(?P<text>'[^']*'|\"[^\"]*\")|(?P<mark>\*\*|[-+*/:^().])"
)
_OPENED = re.compile(r"\s*\(")


class AlgebraError(FormulaError):
    """A sum of terms that cannot be read or is too large."""


@dataclass(frozen=True)
class Terms:
    """The expanded terms of a sum: each a tuple of expressions, and whether it has a 1."""

    intercept: bool
    terms: tuple[tuple[str, ...], ...]

    @property
    def factors(self) -> tuple[str, ...]:
        """The expressions in order of first appearance among the terms."""
        return tuple(dict.fromkeys(factor for term in self.terms for factor in term))


@lru_cache(maxsize=256)
def linear_terms(text: str) -> Terms:
    """Expand a sum of linear terms; without a word on it, there is no intercept.

    Raises:
        AlgebraError: the text is no sum of terms, or has more than MOST_TERMS of them.
    """
    reader = _Reader(text)
    found = reader.whole()
    ordered = sorted(found.terms, key=int.bit_count)
    return Terms(bool(found.intercept), tuple(reader.expressions(term) for term in ordered))


@dataclass(frozen=True)
class _Sum:
    """Distinct terms as bits, and what was said about the intercept: None is nothing."""

    terms: dict[int, None]
    intercept: bool | None = None


@dataclass(frozen=True)
class _Token:
    kind: str  # "name", "call", "number", a mark, or "end"
    text: str
    start: int
    stop: int


class _Reader:
    """A recursive descent over the tokens, one method per level of precedence."""

    def __init__(self, text: str) -> None:
        self._text, self._place = text, 0
        self._tokens = list(_tokens(text))
        self._bits: dict[str, int] = {}
        self._names: list[str] = []

    def expressions(self, term: int) -> tuple[str, ...]:
        found = []
        while term:
            lowest = term & -term
            found.append(self._names[lowest.bit_length() - 1])
            term ^= lowest
        return tuple(found)

    def whole(self) -> _Sum:
        found = self._sum()
        if self._next.kind != "end":
            raise self._wrong("an operator")
        return found

    # -- levels of precedence --------------------------------------------------------------------

    def _sum(self) -> _Sum:
        terms: dict[int, None] = {}
        intercept: bool | None = None
        sign = self._take("+", "-") or "+"
        while True:
            while (again := self._take("+", "-")) is not None:
                sign = "-" if (again == "-") != (sign == "-") else "+"
            one = self._products()
            if one.intercept is not None:
                intercept = one.intercept == (sign == "+")
            if sign == "+":
                terms |= one.terms
                self._count(terms, 0)
            else:
                terms = {term: None for term in terms if term not in one.terms}
            following = self._take("+", "-")
            if following is None:
                return _Sum(terms, intercept)
            sign = following

    def _products(self) -> _Sum:
        start, found = self._next.start, self._interactions()
        while (mark := self._take("*", "/")) is not None:
            other = self._interactions()
            self._no_numbers(start, found, other)
            if mark == "*":
                crossed = self._crossed(start, found.terms, other.terms)
                found = _Sum(found.terms | other.terms | crossed)
            else:
                within = 0
                for term in found.terms:
                    within |= term
                found = _Sum(found.terms | self._crossed(start, [within], other.terms))
            self._count(found.terms, start)
        return found

    def _interactions(self) -> _Sum:
        start, found = self._next.start, self._power()
        while self._take(":") is not None:
            other = self._power()
            self._no_numbers(start, found, other)
            found = _Sum(self._crossed(start, found.terms, other.terms))
        return found

    def _power(self) -> _Sum:
        start, found = self._next.start, self._atom()
        stop = self._tokens[self._place - 1].stop
        while self._take("^", "**") is not None:
            exponent = self._next
            if not re.fullmatch(r"0*[1-9]\d*", exponent.text):
                raise self._wrong("a whole number")
            self._place += 1
            self._no_numbers(start, found, found)
            base = self._text[start:stop]
            power = int(exponent.text) if len(exponent.text) < 9 else 10**9
            if len(found.terms) == 1 and power > 1:
                raise AlgebraError(
                    f"`{self._text[start : exponent.stop]}` is `{base}` in a formula, where a "
                    f"power multiplies sums out; write I({base}**{exponent.text}) for the number"
                )
            terms = found.terms
            for _ in range(power - 1):
                larger = terms | self._crossed(start, terms, found.terms)
                if len(larger) == len(terms):
                    break
                terms = larger
            found = _Sum(terms)
        return found

    def _atom(self) -> _Sum:
        token = self._next
        if token.kind in ("name", "call", "."):
            self._place += 1
            return _Sum({self._bit(token): None})
        if token.kind == "number":
            if token.text not in ("0", "1"):
                raise AlgebraError(
                    "a constant is no term; only 1 and 0 (intercept or not) are, not "
                    f"`{token.text}`"
                )
            self._place += 1
            return _Sum({}, token.text == "1")
        if self._take("(") is None:
            raise self._wrong("a column or a call")
        found = self._sum()
        if self._take(")") is None:
            raise self._wrong("an operator or `)`")
        return found

    # -- what they share -------------------------------------------------------------------------

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _take(self, *marks: str) -> str | None:
        """Step over the next token when it is one of these marks."""
        token = self._next
        if token.kind not in marks:
            return None
        self._place += 1
        return token.kind

    def _bit(self, token: _Token) -> int:
        text = token.text if token.kind == "." else plain_code(token.text)
        if text not in self._bits:
            self._bits[text] = 1 << len(self._names)
            self._names.append(text)
        return self._bits[text]

    def _crossed(self, start: int, one: Iterable[int], other: Iterable[int]) -> dict[int, None]:
        first, second = list(one), list(other)
        if len(first) * len(second) > _MOST_PRODUCTS:
            raise self._too_large(start)
        dot = self._bits.get(".", 0)
        if any(term & dot for term in (*first, *second)):
            raise AlgebraError("`.` (all other columns) can only be a term of its own")
        found = {left | right: None for left in first for right in second}
        self._count(found, start)
        return found

    def _count(self, terms: dict[int, None], start: int) -> None:
        if len(terms) > MOST_TERMS:
            raise self._too_large(start)

    def _too_large(self, start: int) -> AlgebraError:
        text = self._text[start : self._tokens[self._place - 1].stop].strip()
        text = text if len(text) <= 60 else f"{text[:57]}..."
        return AlgebraError(f"`{text}` has more than {MOST_TERMS:,} terms; leave some out")

    def _no_numbers(self, start: int, *sums: _Sum) -> None:
        if any(one.intercept is not None for one in sums):
            text = self._text[start : self._tokens[self._place - 1].stop].strip()
            raise AlgebraError(f"`{text}`: a number cannot multiply a term; use I()")

    def _wrong(self, wanted: str) -> AlgebraError:
        token = self._next
        if token.kind == "other" and token.text in "[{":
            return AlgebraError("only round brackets group terms")
        if token.kind == "text":
            return AlgebraError("a constant is no term; only 1 and 0 (intercept or not) are")
        found = "it ends" if token.kind == "end" else f"`{token.text}` stands"
        return AlgebraError(
            f"`{self._text.strip()}` cannot be read as terms: {found} where {wanted} belongs"
        )


def _tokens(text: str) -> Iterable[_Token]:
    """Cut a sum into names, calls, numbers and marks."""
    closing = _closing(text)
    place = 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        match = _TOKEN.match(text, place)
        if match is None:
            yield _Token("other", text[place], place, place + 1)
            place += 1
            continue
        stop, kind = match.end(), match.lastgroup or ""
        opened = _OPENED.match(text, stop)
        if kind == "name" and opened and not match.group().startswith("`"):
            kind, stop = "call", closing[opened.end() - 1] + 1
        yield _Token(match.group() if kind == "mark" else kind, text[place:stop], place, stop)
        place = stop
    yield _Token("end", "", len(text), len(text))


def _closing(text: str) -> dict[int, int]:
    """Where each round bracket closes."""
    opened: list[int] = []
    closing: dict[int, int] = {}
    for symbol in symbols(Piece(text, 0, text)):
        if symbol.character == "(":
            opened.append(symbol.position)
        elif symbol.character == ")":
            closing[opened.pop()] = symbol.position
    return closing
