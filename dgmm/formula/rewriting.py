"""Formulas made from formulas: the nested classical model, R's update() and lmList()."""

from __future__ import annotations

import re
from dataclasses import replace

from dgmm.formula.algebra import linear_terms
from dgmm.formula.grammar import (
    Summand,
    bars,
    called,
    sides,
    split,
    summands,
    whole_piece,
)
from dgmm.formula.terms import Formula, LatentTerm, formula_text, join_terms


def nested_formula(formula: Formula) -> Formula:
    """Return the classical model inside: latents normal on the same T, networks made linear."""
    latents = tuple(_as_linear(term) for term in formula.latents)
    present = {frozenset(term) for term in linear_terms(formula.fixed).terms}
    fixed = formula.fixed
    for network in (one for one in formula.networks if not one.group):
        for term in linear_terms(network.inputs).terms:
            if frozenset(term) not in present:
                present.add(frozenset(term))
                fixed = f"{fixed} + {':'.join(term)}"
    nested = Formula("", formula.response, fixed, (), latents, formula.offsets)
    return replace(nested, text=formula_text(nested), parts=formula.parts)


def _as_linear(term: LatentTerm) -> LatentTerm:
    """Return the part with a normal latent, and given linear terms alone."""
    given = term.given and replace(term.given, networks=())
    if not term.syntax.neural and given == term.given:
        return term
    bar = f"|{term.shared}|" if term.shared else "||" if term.covariance == "diag" else "|"
    group = term.group if given is None else given.text(term.group)
    text = f"({term.terms} {bar} {group})"
    if not term.syntax.neural:
        return replace(term, text=text, given=given)
    plain = LatentTerm(text, "normal", term.terms, term.group, term.covariance)
    return replace(plain, target=term.target, shared=term.shared, given=given)


def update_formula(old: str, new: str) -> str:
    """Return R's update(): dots in `new` stand for the sides of `old`, `- term` takes one away."""
    old_left, old_right = sides(whole_piece(old))
    parts = [part for _, part in split(whole_piece(new), "~")]
    if len(parts) > 2:
        raise parts[0].error("more than one `~`")
    left = parts[0].text if len(parts) == 2 else ""
    left = re.sub(r"(?<![\w.`])\.(?![\w.`])", old_left.text, left) or old_left.text
    terms: list[Summand] = []
    for change in summands(parts[-1]):
        if change.piece.text == ".":
            terms += summands(old_right)
        elif change.sign == "-":
            terms = _without(terms, change)
        else:
            terms.append(change)
    right = join_terms(terms) or "1"
    return f"{left} ~ {right}"


def grouped_formula(text: str) -> str:
    """Return `y ~ x | id` as `y ~ x + (1 | id)`; a formula with a random part stays as it is."""
    left, right = sides(whole_piece(text))
    parts = [part for _, part in split(right, "|")]
    if len(parts) == 1:
        return text
    if len(parts) > 2 or not all(part.text for part in parts):
        raise right.error("one bar with a side each: `y ~ terms | group`")
    return f"{left.text} ~ {parts[0].text} + (1 | {parts[1].text})"


def _without(terms: list[Summand], change: Summand) -> list[Summand]:
    """Take a term away by its text; else leave the minus to the algebra (a * b - a:b)."""

    def bare(summand: Summand) -> str:
        return re.sub(r"\s", "", summand.piece.text)

    kept = [term for term in terms if bare(term) != bare(change)]
    if len(kept) < len(terms):
        # "- 1" takes the intercept away even when the old formula wrote it.
        return [*kept, change] if change.piece.text in ("0", "1") else kept
    call = called(change.piece)
    if bars(change.piece) or (call is not None and call[0] in ("dnn", "offset")):
        listed = ", ".join(term.piece.text for term in terms)
        raise change.piece.error(f"there is no such term to take away; the terms are: {listed}")
    return [*terms, change]
