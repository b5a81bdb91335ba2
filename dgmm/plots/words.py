"""What stands at an axis, in the words of the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dgmm.design import Specification
from dgmm.families import Family
from dgmm.fit import Fit
from dgmm.plots.axes import Sheet

__all__ = [
    "mean_words",
    "name_categories",
    "name_panels",
    "name_ticks",
    "outcome_words",
    "predictor_words",
    "response_words",
]


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
        return f"mean category of {name}"
    return f"mean of {name}"


def predictor_words(fit: Fit) -> str:
    """The linear predictor: the mean on the scale of its link."""
    link = fit.estimate.model.family.link.name
    if fit.estimate.model.family.category_names:
        return f"linear predictor of {outcome_words(fit)} ({link})"
    return mean_words(fit) if link == "identity" else f"{link} of {mean_words(fit)}"


def _binary(family: Family) -> bool:
    return family.support == "binary"


def name_ticks(axis: Any, names: Sequence[Any], first: int) -> None:
    """Names of ordered categories at their numbers on the x or y axis of a picture."""
    low, high = axis.get_view_interval()
    axis.set_ticks(np.arange(first, first + len(names)), [str(one) for one in names])
    axis.set_view_interval(low, high, ignore=True)


def name_categories(axis: Any, fit: Fit) -> None:
    """:func:`name_ticks` where the outcome of a fit has ordered categories."""
    family = fit.estimate.model.family
    if family.category_names:
        name_ticks(axis, family.category_names, int(str(family.options()["first"])))


def name_panels(drawn: Sheet, fit: Fit, titles: Sequence[str], x: str) -> np.ndarray:
    """Say over panels of outcomes whose they are, at their axes what, and return the axes.

    x: the variable of the horizontal axis.
    """
    for axis, title in zip(drawn.axes, titles, strict=True):
        axis.set_title(title, fontsize=9)
        name_categories(axis.yaxis, fit)
    drawn.label(x, outcome_words(fit))
    drawn.legend()
    return drawn.axes
