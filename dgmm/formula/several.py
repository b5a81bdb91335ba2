"""Formulas of several outcomes: `mv("y1 ~ ...", "y2 ~ ...")`, `mv(y1, y2) ~ ...`, `load(p)`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dgmm.formula.algebra import linear_terms
from dgmm.formula.grammar import (
    FormulaError,
    Piece,
    Summand,
    bars,
    called,
    plain_name,
    sides,
    split,
    summands,
    whole_piece,
)
from dgmm.formula.terms import join_terms
from dgmm.runtime.gate import gate

__all__ = ["Several", "mv", "named_parts", "spread", "term_names", "without_loadings"]


Shared = tuple[tuple[str, tuple[str, ...]], ...]
"""Terms, each with the outcomes in which it has the same coefficients; () all that have it."""


@dataclass(frozen=True)
class Several:
    """One formula per outcome, and what the outcomes have in common."""

    formulas: tuple[str, ...]
    shared: Shared = ()
    rescor: tuple[str, ...] | bool = False  # outcomes with correlated residuals, True all Gaussian

    def __str__(self) -> str:
        inside = [_quoted(text) for text in self.formulas]
        if self.shared and not any(outcomes for _, outcomes in self.shared):
            inside.append(f"shared={_quoted(' + '.join(term for term, _ in self.shared))}")
        elif self.shared:
            pairs = (
                f"{_quoted(term)}: {', '.join(outcomes) or 'all'}" for term, outcomes in self.shared
            )
            inside.append(f"shared={{{'; '.join(pairs)}}}")
        if self.rescor:
            inside.append("rescor=True" if self.rescor is True else f"rescor={self.rescor}")
        return f"mv({', '.join(inside)})"


def _quoted(text: str) -> str:
    return repr(text).replace("'", '"')


@gate
def mv(*formulas: Any, shared: Any = None, rescor: Any = False) -> Several:
    """Join the formulas of several outcomes of the same subjects into one model.

        eta_ijk = X_ijk beta_k + T_ijk b_ik,   (b_i1, ..., b_iK) ~ N(0, D)

    Args:
        formulas: one per outcome. Random parts of one name, ``(1 + time |p| id)``, are correlated
            across the outcomes, all others independent. ``load(p)`` takes the random part ``p`` of
            another outcome times a loading that is estimated. Outcomes with ``(dnn(time, latent=k)
            |p| id)`` share the k effects b_i and the hidden layers of one network, each with
            loadings and a last layer of its own; linear parts of that name are correlated with b_i.
            A recursion of one name, ``(kvae(time, code=2) |p| id)``, stands in all formulas: its
            decoder has an output for each outcome.
        shared: terms with the same coefficients in all outcomes whose formulas have them, such as
            ``"age + sex"``; ``1`` is the intercept. A mapping ``{"age": ("y", "z")}`` names the
            outcomes. On stacked rows it is ``trait + age`` in place of ``trait + trait:age``
            (MCMCglmm, glmmTMB), and ``1 + 2 ~ age - 1`` of mgcv.
        rescor: True correlates the residuals of all Gaussian outcomes that were seen on the same
            row; names of outcomes those of some. It is ``set_rescor(TRUE)`` of brms,
            ``rcov = ~us(trait):units`` of MCMCglmm, and ``corSymm(form = ~ trait | id/visit)`` with
            ``varIdent(form = ~ 1 | trait)`` of nlme. At most eight outcomes.

    Raises:
        FormulaError: fewer than two formulas, an outcome that stands twice, terms in ``shared``
            that cannot be read, or a ``rescor`` that names no outcomes.

    Example:
        >>> import dgmm
        >>> print(dgmm.mv("y ~ x + (1 |p| id)", "z ~ x + (1 |p| id)"))
        mv("y ~ x + (1 |p| id)", "z ~ x + (1 |p| id)")

    References:
        Fieuws and Verbeke (2006), Biometrics 62, 424-431; Rockwood and Jeon (2019), Multivariate
        Behavioral Research 54, 288-306 (loadings).
    """
    for one in formulas:
        if not isinstance(one, str):
            raise FormulaError(f"mv() takes formulas in quotes, not {type(one).__name__}")
    if len(formulas) < 2:
        raise FormulaError(f"mv() joins at least two formulas, not {len(formulas)}")
    names = [sides(whole_piece(text))[0].text for text in formulas]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise FormulaError(f"the outcome `{twice[0]}` has two formulas in mv(); give it one")
    return Several(tuple(formulas), _shared(shared), _rescor(rescor))


def _shared(given: Any) -> Shared:
    """The terms of ``shared=``, expanded, each with the outcomes named beside it."""
    if given is None:
        return ()
    pairs = given.items() if isinstance(given, Mapping) else [(given, ())]
    found: dict[str, tuple[str, ...]] = {}
    for text, outcomes in pairs:
        names = (outcomes,) if isinstance(outcomes, str) else outcomes
        words = isinstance(names, Sequence) and all(isinstance(one, str) for one in names)
        if not isinstance(text, str) or not words:
            raise FormulaError(
                'shared= is a sum of terms in quotes, "age + sex", or a mapping of such sums to '
                f"the names of outcomes, not {given!r}"
            )
        for term in term_names(text):
            found[term] = tuple(names)
    return tuple(found.items())


def _rescor(given: Any) -> tuple[str, ...] | bool:
    """Whether, or between which outcomes, residuals are correlated."""
    if isinstance(given, bool):
        return given
    names = isinstance(given, list | tuple) and all(isinstance(one, str) for one in given)
    if not names or len(set(given)) < 2:
        raise FormulaError(
            f"rescor= is True, False, or the names of at least two outcomes, not {given!r}"
        )
    return tuple(given)


def term_names(text: str) -> list[str]:
    """The terms of a sum by name, "(Intercept)" where it has a 1."""
    read = linear_terms(text)
    terms = [":".join(plain_name(one) or one for one in term) for term in read.terms]
    return ["(Intercept)", *terms] if read.intercept else terms


def spread(text: str) -> Several | None:
    """`mv(y1, ..., yp) ~ terms` as one formula per outcome; None for any other text.

    Random parts without a name get the same one in all outcomes, so that they are correlated.
    """
    whole = whole_piece(text)
    if not whole.text.startswith("mv"):
        return None
    left, right = sides(whole)
    call = called(left)
    if call is None or call[0] != "mv":
        return None
    outcomes = [part.text for _, part in split(call[1], ",")]
    if len(outcomes) < 2 or not all(outcomes):
        raise left.error("mv() takes at least two outcomes, mv(y1, y2) ~ terms")
    terms = [_named(term, number) for number, term in enumerate(summands(right), 1)]
    return mv(*(f"{one} ~ {join_terms(terms) or '1'}" for one in outcomes))


def _named(term: Summand, number: int) -> Summand:
    """A random part with one bar under a name of its own."""
    found = bars(term.piece)
    if len(found) != 1 or found[0].inside != "(":
        return term
    at = found[0].position
    text = f"{term.piece.text[:at]}|b{number}|{term.piece.text[at + 1 :]}"
    return Summand(term.sign, Piece(text, 0, text))


def without_loadings(text: str) -> tuple[str, list[str]]:
    """A formula without its `load(p)`, and the names of those."""
    left, right = sides(whole_piece(text))
    kept, names = [], []
    for term in summands(right):
        call = called(term.piece)
        if call is None or call[0] != "load":
            kept.append(term)
            continue
        name = plain_name(call[1].text)
        if name is None or term.sign == "-":
            raise term.piece.error("load(p) takes the name of a random part, (1 |p| id)")
        names.append(name)
    if not names:
        return text, []
    return f"{left.text} ~ {join_terms(kept) or '1'}", names


def named_parts(text: str) -> Iterator[tuple[str, str]]:
    """The names of the random parts of a formula, each with the text of the part."""
    for term in summands(sides(whole_piece(text))[1]):
        found = bars(term.piece)
        if len(found) == 2 and found[1].position > found[0].position + 1:
            yield term.piece.part(found[0].position + 1, found[1].position).text, term.piece.text
