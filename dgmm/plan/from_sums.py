"""Models of rows that are not in memory: what sums by subject determine, and what they do not."""

from __future__ import annotations

import numpy as np

from dgmm.design import Design, Surrogate
from dgmm.families import Family
from dgmm.formula import Formula, split_group
from dgmm.plan.call import Call
from dgmm.plan.groups import check_groups, check_varies
from dgmm.plan.residual import check_size, no_residual

__all__ = ["check_columns", "check_enough", "check_left", "check_stored"]

EXACT = 2.5e-7
"""Residual standard deviation, as a share of that of the outcome, of which sums of squares hold no
digit."""

INSTEAD = "; read the rows into a data frame"


def check_stored(call: Call, parsed: Formula, family: Family) -> None:
    """Refuse what needs the rows themselves.

    Raises:
        ValueError: the part of the call, and what there is in its place.
    """
    found = _of_formula(parsed) or _of_call(call, family)
    if found:
        raise ValueError(
            "data= is not in memory, of which sums by subject are taken, and these determine "
            f"Gaussian models of linear terms and one grouping factor: {found}{INSTEAD}"
        )


def _of_formula(parsed: Formula) -> str:
    """What of a formula is no such model, "" for nothing."""
    if parsed.networks:
        return f"{parsed.networks[0].text} is a network"
    for term in parsed.latents:
        if term.syntax.neural:
            return f"{term.text} has a network"
        if term.syntax.serial:
            return f"{term.text} is a path"
        if term.given is not None:
            return f"{term.text} is made of means over the rows of a subject"
        if len(split_group(term.group)) > 1:
            return f"`{term.group}` is made of several columns"
    groups = list(dict.fromkeys(term.group for term in parsed.latents))
    if len(groups) > 1:
        return f"the formula has the grouping factors {', '.join(groups)}"
    if parsed.response.kind != "plain":
        return f"the outcome `{parsed.response.text}` has two columns"
    return ""


def _of_call(call: Call, family: Family) -> str:
    """What of the arguments is for other models, "" for nothing."""
    if not family.conjugate:
        return f"family={family.name!r} with link={family.link.name!r} is another"
    for name in call.parts():
        return f"{name}= needs the rows"
    wanted = {
        "method": (call.method, ("auto", "ml", "reml")),
        "likelihood": (call.likelihood, ("auto", "exact")),
        "missing": (call.missing, ("observed",)),
        "se": (call.se, ("hessian", None)),
    }
    for name, (value, known) in wanted.items():
        if value not in known:
            return f"{name}={value!r} needs the rows"
    return ""


def check_columns(found: Surrogate, family: Family) -> None:
    """Refuse random parts that cannot be told apart, and an outcome of one value or of no size."""
    outcome = found.design.formula.response.text
    check_groups(found.design, family)
    check_varies(np.array([found.low, found.high]), outcome)
    check_size(outcome, max(abs(found.low), abs(found.high)))


def check_left(design: Design, residual: float) -> None:
    """Refuse an outcome of which fixed and random terms leave no residual.

    residual: its standard deviation, of the fit by least squares or of the model.
    """
    if residual <= EXACT * float(np.sqrt(np.square(design.y - design.y.mean()).mean())):
        raise no_residual(design.formula.response.text)


def check_enough(design: Design, subjects: int, seen: int) -> None:
    """Refuse data that cannot tell random effects from the residual.

    Args:
        design: of a few rows that stand for all.
        subjects: that have an outcome or a row.
        seen: number of outcomes.
    """
    group = design.latents[0].grouping.name
    if subjects < 2:
        raise ValueError(
            f"the group `{group}` has {subjects} level in the complete rows; a random part needs "
            "two or more"
        )
    columns = len(design.fixed.names)
    effects = sum(len(block.columns.names) for block in design.latents)
    if columns >= seen:
        raise ValueError(
            f"the fixed terms have {columns} columns for {seen} observed outcomes, which leaves "
            "nothing to estimate random effects from; use fewer terms"
        )
    if seen <= subjects * effects:
        raise ValueError(
            f"{seen} observed outcomes cannot tell {effects} random effects for each of "
            f"{subjects} levels of `{group}` from the residual; use fewer random effects"
        )
