"""The model of a call: its formula, its family, and the columns of its design."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from dgmm.design import Design, build_design
from dgmm.families import Family, OutcomeError
from dgmm.families import find as find_family
from dgmm.formula import Formula, nested_formula, parse_formula, with_part
from dgmm.latent import structures
from dgmm.latent import words as latent_words
from dgmm.plan.call import Call
from dgmm.plan.conditional import of_conditional, order_of_rows
from dgmm.plan.flat import check_flat
from dgmm.plan.groups import check_groups, overlaps
from dgmm.plan.noiseless import check_noiseless, leaves_none
from dgmm.plan.origin import check_origin
from dgmm.plan.residual import check_residual
from dgmm.runtime.warned import warn_user

__all__ = [
    "as_counted",
    "has_neural_effects",
    "has_paths",
    "has_recursions",
    "is_deep",
    "latent_words",
    "parse_call",
    "read_designs",
    "read_family",
    "structures",
]


def parse_call(call: Call) -> Formula:
    """The formula of a call, with those of the parameters of its family."""
    parsed = parse_formula(call.formula, latent_words=latent_words(), structures=structures())
    for name, text in call.parts().items():
        if name != "dispersion" or not leaves_none(text):
            parsed = with_part(parsed, name, text, structures())
    return parsed


def read_family(call: Call) -> Family:
    """The family of a call; zi= makes one that knows no structural zeros zero-inflated.

    dispersion="~ 0" takes the noise of a Gaussian outcome away.
    """
    family = find_family(call.family, call.link, call.bounds)
    if leaves_none(call.dispersion):
        family = family.without_noise()
    if call.zi is not None and family.zi is None:
        return find_family("zero_inflated", base=family)
    return family


def read_designs(
    call: Call, parsed: Formula, family: Family, data: Any
) -> tuple[Design, Design | None, Family]:
    """The design, that of the classical model beneath a deep one, and the family fitted to y."""
    columns: dict[str, Any] = {
        "weights": call.weights,
        "offset": call.offset,
        "missing_covariates": call.missing_covariates,
        "intercept": family.intercept,
        "ordered": family.support == "ordered",
    }
    design, family = as_counted(build_design(parsed, data, **columns), family)
    check_groups(design, family, call.prior.residual_known)
    if not call.prior.residual_known:
        check_residual(design, family)
    check_origin(design, family)
    check_flat(design)
    said = of_conditional(design)
    for message in said:
        warn_user(message)
    design = replace(design, messages=(*design.messages, *said, *order_of_rows(design)))
    check_noiseless(design, family)
    if not is_deep(parsed):
        return design, None, family
    design = replace(design, messages=(*design.messages, *overlaps(design)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same warnings were given for the design itself
        nested = as_counted(build_design(nested_formula(parsed), data, **columns), family)[0]
    return design, nested, family


def as_counted(design: Design, family: Family) -> tuple[Design, Family]:
    """The outcome as the family counts it, impossible outcomes refused by their row."""
    if design.formula.response.kind == "cbind" and family.support != "trials":
        raise ValueError(
            f"cbind(success, failure) is an outcome of family='binomial', not {family.name!r}"
        )
    levels = design.spec.response_levels
    if levels and not family.yes_or_no:
        raise ValueError(
            f"the outcome `{design.formula.response.text}` has the two values "
            f"{levels[0]!r} and {levels[1]!r}, and family={family.name!r} is for numbers: use "
            "family='bernoulli'. For a linear model of 0 and 1 make the column a number"
        )
    design = _with_trials(design, family)
    seen = design.observed
    zero = int((design.weights[seen] == 0).sum())
    if zero:
        raise ValueError(
            f"weights must be positive, and {zero} of {seen.sum()} outcomes have weight zero: "
            "leave out rows that should not count"
        )
    columns = [design.y, design.trials, design.weights]
    every = bool(seen.all())
    try:
        parts = family.read(*(column if every else column[seen] for column in columns))
        family = family.fitted_to(parts[0], design.spec.response_levels)
    except OutcomeError as error:
        (label,) = design.index[[np.flatnonzero(seen)[error.row]]].tolist()
        raise ValueError(f"{error.message} (row {label!r} of the data)") from None
    if every:
        columns = [np.asarray(part, dtype=float) for part in parts]
    else:
        columns = [column.copy() for column in columns]
        for column, part in zip(columns, parts, strict=True):
            column[seen] = part
    y, trials, weights = columns
    return replace(design, y=y, trials=trials, weights=weights), family


def _with_trials(design: Design, family: Family) -> Design:
    """Proportions whose weight, the number of trials, is 0 count as not observed."""
    empty = design.observed & (design.weights == 0)
    if family.support != "trials" or design.formula.response.kind != "plain" or not empty.any():
        return design
    message = (
        f"the outcome `{design.formula.response.text}` has no trials in {empty.sum()} of "
        f"{design.n_rows} rows, which count as not observed"
    )
    warn_user(message)
    y, weights = np.where(empty, np.nan, design.y), np.where(empty, 1.0, design.weights)
    return replace(design, y=y, weights=weights, messages=(*design.messages, message))


def is_deep(parsed: Formula) -> bool:
    return bool(parsed.networks) or has_neural_effects(parsed)


def has_neural_effects(parsed: Formula) -> bool:
    return any(term.syntax.neural for term in parsed.latents)


def has_paths(parsed: Formula) -> bool:
    return any(term.syntax.serial for term in parsed.latents)


def has_recursions(parsed: Formula) -> bool:
    return any(term.syntax.neural and term.syntax.serial for term in parsed.latents)
