"""What stands at an axis, in the words of the data."""

from __future__ import annotations

from dgmm.design import Specification
from dgmm.families import Family
from dgmm.fit import Fit

__all__ = ["mean_words", "outcome_words", "predictor_words", "response_words"]


def response_words(spec: Specification) -> str:
    """The outcome as it is drawn: by its name, of counts out of trials the share."""
    response = spec.parsed().response
    if response.kind == "plain":
        levels = spec.response_levels
        said = len(levels) == 2 and not spec.ordered_response
        return f"{response.names[0]} = {levels[1]}" if said else response.names[0]
    return f"share of {response.names[0]}"


def outcome_words(fit: Fit) -> str:
    """The outcome of a fit, see :func:`response_words`."""
    return response_words(fit.memory.spec)


def mean_words(fit: Fit) -> str:
    """What the mean of the outcome is: a probability, a share, a mean."""
    spec, family = fit.memory.spec, fit.estimate.model.family
    name = outcome_words(fit)
    if spec.parsed().response.kind != "plain":
        return name
    if _binary(family):
        return f"probability of {name}" if " = " in name else f"probability of {name} = 1"
    if family.category_names:
        return f"mean category of {name} ({_numbers(family)})"
    return f"mean of {name}"


def predictor_words(fit: Fit) -> str:
    """The linear predictor: the mean on the scale of its link."""
    link = fit.estimate.model.family.link.name
    if fit.estimate.model.family.category_names:
        return f"linear predictor of {outcome_words(fit)} ({link})"
    return mean_words(fit) if link == "identity" else f"{link} of {mean_words(fit)}"


def _binary(family: Family) -> bool:
    return family.support == "binary"


def _numbers(family: Family) -> str:
    """The categories and their numbers, where these are not the names."""
    names = family.category_names
    first = int(family.options().get("first", 1))
    return f"{first} = {names[0]}, ..., {first + len(names) - 1} = {names[-1]}"
