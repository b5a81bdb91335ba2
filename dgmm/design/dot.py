"""A formula among the columns of a frame: the meaning of `.`, and where the outcome may stand."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, Protocol

from dgmm.design.expressions import ExpressionError, names_of
from dgmm.design.frame import Request
from dgmm.formula import Formula, formula_text, linear_terms, name_text
from dgmm.formula.grammar import summands, whole_piece
from dgmm.formula.terms import join_terms

__all__ = ["in_columns"]


class Named(Protocol):
    """A table of which the columns are known by name."""

    @property
    def names(self) -> Collection[str]: ...


def in_columns(formula: Formula, table: Named, *given: Any) -> Formula:
    """Write the formula in the columns of a table; ``given`` are the weights and the offset.

    Raises:
        ValueError: a `.` that stands for nothing, or an outcome right of `~`.
    """
    expanded = _expand_dot(formula, table, *given)
    _refuse_outcome_as_covariate(expanded, table)
    return expanded


def _expand_dot(formula: Formula, table: Named, *given: Any) -> Formula:
    """Replace `.` among the fixed terms by every column not used elsewhere in the formula."""
    if "." not in linear_terms(formula.fixed).factors:
        return formula
    terms = summands(whole_piece(formula.fixed))
    places = [place for place, term in enumerate(terms) if term.piece.text == "."]
    if len(places) != 1 or terms[places[0]].sign == "-":
        raise ValueError("`.` stands for all other columns and can only be added, once")
    before, after = terms[: places[0]], terms[places[0] + 1 :]
    bare = replace(  # covariates of cre() are to be among the fixed terms as well
        formula,
        fixed=join_terms([*before, *after]),
        networks=tuple(network for network in formula.networks if not network.group),
        latents=tuple(
            replace(term, given=None, basis=None) if term.given else term
            for term in formula.latents
        ),
    )
    used = set(Request(bare).names(table.names)) | {name for name in given if isinstance(name, str)}
    free = [name_text(name) for name in table.names if name not in used]
    if not free:
        raise ValueError("`.` stands for all other columns, and there is none left")
    fixed = join_terms(before) + "".join(f" + {name}" for name in free)
    expanded = replace(formula, fixed=fixed + join_terms(after, leading=True))
    return replace(expanded, text=formula_text(expanded))


def _refuse_outcome_as_covariate(formula: Formula, table: Named) -> None:
    """The outcome explains itself without a residual.

    Of two columns the second may, too, and so may what was calculated from several, as in
    I(after - before) ~ before.
    """
    request = Request(formula)
    outcome = names_of(formula.response.parts[0], table.names)
    if len(outcome) != 1:
        return
    for name in (*request.covariate_names(table.names), *request.group_names()):
        if name in outcome:
            raise ExpressionError(
                f"the outcome `{name}` also stands right of `~`, where it would explain itself; "
                "take it out there",
                name,
            )
