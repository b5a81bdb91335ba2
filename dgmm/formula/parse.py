"""Formula text to terms: `y ~ x + dnn(age, sex) + (1 + time | id)`.  Text only; knows no data.

The bars, networks and offsets are cut out first; the rest is left to the algebra of linear terms.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dgmm.formula.conditional import given_to, read_groups, with_given
from dgmm.formula.grammar import (
    FormulaError,
    Piece,
    Summand,
    bars,
    bracketed,
    called,
    plain_name,
    sides,
    split,
    summands,
    whole_piece,
)
from dgmm.formula.networks import read_network
from dgmm.formula.options import latent_options, split_arguments
from dgmm.formula.syntax import NETWORK, Syntax
from dgmm.formula.terms import (
    Formula,
    LatentTerm,
    NetworkTerm,
    Part,
    Response,
    check_algebra,
    check_count,
    check_linear,
    intercept_of,
    linear_text,
)

__all__ = ["parse_formula", "with_part"]


WORDS = {"dnn": NETWORK}
STRUCTURES: Mapping[str, Syntax] = {"us": Syntax(), "diag": Syntax()}
ELSEWHERE = {
    "homdiag": "diag(terms | group, hom=TRUE)",
    "homcs": "cs(terms | group, hom=TRUE)",
    "hetar1": "ar1(terms | group, hom=FALSE)",
}
"""Words of glmmTMB in front of a bar, and what to write here."""

_ONE_SPLINE = re.compile(r"(?P<lead>[01] \+ )ns\((?P<variable>[^(),]+), *(?:df ?= ?)?(?P<df>\d+)\)")


def parse_formula(
    text: str,
    *,
    latent_words: Mapping[str, Syntax] = WORDS,
    structures: Mapping[str, Syntax] = STRUCTURES,
) -> Formula:
    """Read a formula.

    latent_words: the names that may stand left of a bar, `(name(T) | group)`.
    structures: those that may stand in front of one, `name(T | group)`.
    """
    whole = whole_piece(text)
    left, right = sides(whole)
    linear: list[Summand] = []
    networks: list[NetworkTerm] = []
    latents: list[LatentTerm] = []
    offsets: list[str] = []
    terms = summands(right)
    check_count(terms, right)
    for term in terms:
        call = called(term.piece)
        if call is not None and (call[0] in structures or call[0] in ELSEWHERE):
            latents += _structured(term, call, structures)
        elif bars(term.piece):
            latents += _latents(term, latent_words)
        elif call is not None and call[0] in ("dnn", "offset"):
            _refuse_minus(term)
            if call[0] == "dnn":
                networks.append(read_network(term.piece, call[1]))
            else:
                offsets.append(_offset(call[1], term.piece))
        else:
            check_linear(term, ("dnn", "offset"), dot=True)
            linear.append(term)
    networks += [one for term in latents if term.given for one in term.given.networks]
    fixed = linear_text(linear, True)
    check_algebra(fixed, whole)
    return Formula(
        whole.text, _response(left), fixed, tuple(networks), tuple(latents), tuple(offsets)
    )


def with_part(
    formula: Formula, name: str, text: str, structures: Mapping[str, Syntax] = STRUCTURES
) -> Formula:
    """Add a second predictor, `zi="~ z + (1 | id)"` or `dispersion="~ x"`, to a formula."""
    right = text.strip().removeprefix("~").strip()
    if not right or len(split(whole_piece(right), "~")) > 1:
        raise FormulaError(f"{name}= is a formula without outcome, as in {name}='~ x'", text, 0)
    try:
        part = parse_formula(f"{name} ~ {right}", structures=structures)
    except FormulaError as error:
        raise ValueError(f"{name}={text!r}: {error}") from error
    if (
        part.networks
        or part.offsets
        or any(term.syntax.neural or term.syntax.serial for term in part.latents)
    ):
        raise FormulaError(f"{name}= has linear terms only, no dnn() and no offset()", text, 0)
    if any(term.given for term in part.latents):
        raise FormulaError(f"{name}= has no cre(): it is for the predictor of the mean", text, 0)
    if part.fixed == "0":
        raise FormulaError(f"{name}= needs a term or an intercept, as in {name}='~ 1'", text, 0)
    if part.latents and name != "zi":
        raise FormulaError(f"{name}= has no random effects; only zi= may have them", text, 0)
    latents = tuple(replace(term, target=name) for term in part.latents)
    return replace(
        formula,
        latents=(*formula.latents, *latents),
        parts=(*formula.parts, Part(name, right, part.fixed)),
    )


def _response(left: Piece) -> Response:
    if bars(left):
        raise left.error("`|` cannot stand in the outcome")
    call = called(left)
    if call is not None and call[0] == "cbind":
        parts = [part.text for _, part in split(call[1], ",")]
        if len(parts) != 2 or not all(parts):
            raise left.error("cbind() takes two columns: cbind(success, failure)")
        return Response(left.text, "cbind", tuple(parts))
    ratio = split(left, "/")
    if len(ratio) == 2 and all(part.text for _, part in ratio) and len(split(left, "+-*")) == 1:
        return Response(left.text, "ratio", tuple(part.text for _, part in ratio))
    return Response(left.text, "plain", (left.text,))


def _offset(inside: Piece, piece: Piece) -> str:
    if not inside.text:
        raise piece.error("offset() needs an expression, as in offset(log(time))")
    return inside.text


def _latents(term: Summand, words: Mapping[str, Syntax]) -> list[LatentTerm]:
    """Read `(T | group)`, `(T || group)`, `(dnn(T) | group)` and nested groups `a/b`."""
    _refuse_minus(term)
    left, right, bar = _sides_of_bar(term.piece)
    covariance, name = ("diag", "") if bar == "||" else ("us", bar.strip("|"))
    blocks, groups = _blocks(left, words), read_groups(right)
    if name and len(blocks) * len(groups) > 1:
        raise term.piece.error(f"a random part with the name `{name}` has one kind and one group")
    found = []
    for group in groups:
        conditional = None if group.given is None else given_to(blocks, term.piece)
        for block in blocks:
            given = group.given if block is conditional else None
            shown = group.name if given is None else given.text(group.name)
            split_up = len(blocks) > 1 or (given is None and shown != right.text)
            text = f"({block.text} {bar} {shown})" if split_up else term.piece.text
            one = replace(block, text=text, group=group.name, covariance=covariance, shared=name)
            found.append(one if given is None else with_given(one, given, term.piece))
    return found


def _structured(
    term: Summand, call: tuple[str, Piece], structures: Mapping[str, Syntax]
) -> list[LatentTerm]:
    """Read `word(T | group, option=value)`, the covariance of the columns of T."""
    _refuse_minus(term)
    (word, arguments), piece = call, term.piece
    if word in ELSEWHERE:
        raise piece.error(f"{word}() is written {ELSEWHERE[word]}")
    inside, given = split_arguments(arguments)
    example = f"write {word}(terms | group), as in {word}(1 + x | id)"
    found = bars(inside[0]) if len(inside) == 1 else []
    if len(found) != 1 or found[0].inside:
        raise piece.error(f"{word}() in front of a random part holds one bar: {example}")
    left, right = inside[0].part(0, found[0].position), inside[0].part(found[0].position + 1)
    if not left.text or not right.text:
        raise piece.error(f"a side of the bar is empty: {example}")
    terms = summands(left)
    for one in terms:
        inner = called(one.piece)
        if inner is not None and inner[0] in WORDS:
            raise one.piece.error(f"{word}() is for columns; a network has no such covariance")
        check_linear(one, ("dnn", "offset"))
    text = linear_text(terms, True)
    check_algebra(text, left)
    if text == "0":
        raise left.error(f"`0` alone leaves nothing random: write {word}(0 + x | id)")
    syntax = structures[word]
    options = latent_options(given, piece, syntax)
    tail = "".join(f", {name}={value.text}" for name, value in given.items())
    latents = []
    for group in read_groups(right):
        alone = group.given is not None or group.name == right.text
        shown = piece.text if alone else f"{word}({left.text} | {group.name}{tail})"
        latent = LatentTerm(shown, "normal", text, group.name, word, options, syntax)
        if group.given is not None:
            latent = with_given(given_to([latent], piece), group.given, piece)
        latents.append(latent)
    return latents


def _sides_of_bar(piece: Piece) -> tuple[Piece, Piece, str]:
    """The left, the right, and the bar: `|`, `||`, or `|name|`."""
    found = bars(piece)
    example = "write the random part as a term of its own, like (1 + x | id)"
    if not found[0].inside:
        raise piece.part(found[0].position, found[0].position + 1).error(
            f"`|` stands outside parentheses: {example}"
        )
    inside = bracketed(piece)
    if inside is None or any(bar.inside != "(" for bar in found):
        raise piece.error(f"a random part cannot be nested in brackets or multiplied: {example}")
    bar = piece.part(found[0].position, found[-1].position + 1)
    name = bar.text[1:-1] if len(found) == 2 else ""
    if len(found) > 2 or (name and plain_name(name) is None):
        raise piece.error(
            "one bar per random part; for two groups write (x | a) + (x | b), and (x |p| id) for "
            "a part with the name p that is correlated with those of other outcomes"
        )
    left = piece.part(1, found[0].position)
    right = piece.part(found[-1].position + 1, len(piece.text) - 1)
    if not left.text:
        raise piece.error("nothing stands left of the bar: write (1 | id) for a random intercept")
    if not right.text:
        raise piece.error("the group is missing right of the bar: write (1 | id)")
    return left, right, f"|{name}|" if len(found) == 2 else "|"


def _blocks(left: Piece, words: Mapping[str, Syntax]) -> list[LatentTerm]:
    """Read the left of a bar: a linear part, any number of `dnn(T)`, or both."""
    linear: list[Summand] = []
    calls: list[tuple[str, Piece, Piece]] = []
    for term in summands(left):
        call = called(term.piece)
        if call is not None and call[0] in words:
            _refuse_minus(term)
            calls.append((call[0], call[1], term.piece))
        else:
            check_linear(term, (*words, "offset"))
            linear.append(term)
    variables = [term for term in linear if term.piece.text not in ("0", "1")]
    intercept = intercept_of(linear)
    # the intercept written beside a call belongs to the call, unless that cannot have one
    alone = intercept is True and all(words[word].serial for word, _, _ in calls)
    blocks = []
    if variables or not calls or alone:
        text = linear_text(linear, True)
        check_algebra(text, left)
        if text == "0":
            raise left.error("`0` alone leaves nothing random: write (1 | id) or (0 + x | id)")
        blocks.append(LatentTerm(left.text if not calls else text, "normal", text, ""))
    for word, arguments, piece in calls:
        # A linear part beside the network already carries the intercept of the subject.
        taken = any(not block.syntax.serial for block in blocks)
        default = not taken and intercept is not False
        blocks.append(_called(word, words[word], arguments, piece, default))
    return blocks


def _called(
    word: str, syntax: Syntax, arguments: Piece, piece: Piece, intercept: bool
) -> LatentTerm:
    """Read `word(terms, option=value)`."""
    inputs, options = split_arguments(arguments)
    terms = [term for part in inputs for term in summands(part)]
    for term in terms:
        check_linear(term, (word, "dnn", "offset"))
    if not terms:
        raise piece.error(f"{word}() needs the terms that vary, as in ({word}(time) | id)")
    explicit = intercept_of(terms)
    if syntax.serial:
        _check_one_variable(word, terms, piece)
    keep = not syntax.serial and (intercept if explicit is None else explicit)
    text = linear_text(terms, keep)
    check_algebra(text, piece)
    chosen = latent_options(options, piece, syntax)
    further = next((name for name, kind in syntax.options.items() if kind == "terms"), "")
    basis, usual = chosen.pop(further, None), ""
    if basis is not None:
        basis = _basis_text(basis, keep)
    elif "basis" in syntax.options and chosen.get("form") != "dense":
        basis, usual = _richer(text)
    bare = keep or explicit is False or syntax.serial
    return LatentTerm(
        piece.text if bare else f"0 + {piece.text}",
        word,
        text,
        "",
        basis=basis,
        usual=usual,
        options=chosen,
        syntax=syntax,
    )


def _check_one_variable(word: str, terms: Sequence[Summand], piece: Piece) -> None:
    if len(terms) != 1 or terms[0].sign == "-" or terms[0].piece.text in ("0", "1"):
        raise piece.error(
            f"{word}() takes one numeric variable, the time of the visits, as in ({word}(time) | "
            f"id). A random intercept is a term of its own: (1 | id) + ({word}(time) | id)"
        )


def _richer(text: str) -> tuple[str | None, str]:
    """Double the degrees of freedom when T is one natural spline: the default coefficient basis,
    and its variable.

    On simulated sigmoid profiles (800 subjects, 20 visits, ns(time, 4)) the error of the profiles
    was 0.82 of the linear mixed model's with it and 0.95 without, and where the linear mixed model
    was true it cost less than 1 %.
    """
    match = _ONE_SPLINE.fullmatch(text)
    if match is None:
        return None, ""
    lead, variable, df = match["lead"], match["variable"], 2 * int(match["df"])
    return f"{lead}ns({variable}, {df}, ties='merge')", variable


def _basis_text(basis: Piece, intercept: bool) -> str:
    terms = summands(basis)
    for term in terms:
        check_linear(term, ("dnn", "offset"))
    text = linear_text(terms, intercept)
    check_algebra(text, basis)
    return text


def _refuse_minus(term: Summand) -> None:
    if term.sign == "-":
        raise term.piece.error("this term cannot be subtracted; leave it out instead")
