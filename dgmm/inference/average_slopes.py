"""Average slopes and contrasts of covariates, linear or inside networks, by the delta method.

    slope        mean over the sample of d f / d x
    difference   mean over the sample of f(x = one), less that of f(x = other)
    ratio        of these two means; odds ratio: of p / (1 - p) of these two means

f is a quantity: the linear predictor, or the mean of a subject or of the population. A ratio has
its interval and its test on the logarithmic scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dgmm.design import covariate_values
from dgmm.families.links import LINKS
from dgmm.inference.mean_part import MeanFunction, MeanPart
from dgmm.inference.wald import spread_table
from dgmm.runtime.result_table import ResultTable
from dgmm.runtime.warned import warn_user

__all__ = ["COMPARE", "average_contrast", "average_slopes", "stated"]

STEP = 1e-4
"""Share of the range of a covariate by which it is moved to either side, once and twice."""

COMPARE = {"difference": "identity", "ratio": "log", "odds_ratio": "logit"}
"""How two means are compared, and the link on whose scale their difference is taken."""


def average_slopes(
    mean: MeanPart, covariates: str | Sequence[str] | None, offset: float | None, level: float
) -> pd.DataFrame:
    """See :meth:`dgmm.fit.Fit.slopes`."""
    chosen = [covariates] if isinstance(covariates, str) else list(covariates or mean.own)
    mean.check(chosen)
    found: dict[str, MeanFunction] = {}
    for name in chosen:
        found |= _of_covariate(mean, name, offset)
    if not found:
        raise ValueError(
            "slopes() has no covariate of the fixed part with more than one value, and there are "
            f"no slopes of {', '.join(map(repr, chosen)) or 'an intercept'}"
        )
    return _table(mean, found, level, stated(mean, "Average slopes", offset))


def average_contrast(
    mean: MeanPart,
    one: Mapping[str, Any],
    other: Mapping[str, Any],
    compare: str,
    offset: float | None,
    level: float,
) -> pd.DataFrame:
    """See :meth:`dgmm.fit.Fit.contrast`."""
    for setting in (one, other):
        if not isinstance(setting, Mapping) or not setting:
            raise TypeError(f"a setting is a dict of covariates and values, not {setting!r}")
        mean.check_values(setting, "the contrast")
        for name, value in setting.items():
            if np.ndim(value):
                raise ValueError(f"`{name}` is set to one value in a contrast, not to {value!r}")
    sides = (_set(mean, one, offset), _set(mean, other, offset))
    if compare == "difference":
        label = _label(one, other, "-")
        title = stated(mean, "Average contrast", offset)
        return _table(mean, {label: sides[0] - sides[1]}, level, title)
    link = _link_of(mean, compare)
    theta = mean.done.theta
    first, second = (side if link is None else side.on(link, theta) for side in sides)
    label, what = _label(one, other, "/"), compare.replace("_", " ").capitalize()
    title = stated(mean, what, offset) if link else f"{what} of a subject, at any random effects"
    return _table(mean, {label: first - second}, level, title, ratios=True)


def stated(mean: MeanPart, what: str, offset: float | None) -> str:
    """The title of a table: what it holds, of which quantity, at which offset."""
    title = f"{what}: {mean.quantity.words}"
    held = mean.quantity.offset if offset is None else offset
    if mean.has_offset and held is not None:
        title += f", offset held at {held:g}" + (" (a rate)" * (held == 0))
    return title


def _link_of(mean: MeanPart, compare: str) -> Any:
    """The link on whose scale two quantities are subtracted; None where they are on it already."""
    if compare not in COMPARE:
        raise ValueError(f"compare is {', '.join(map(repr, COMPARE))}, not {compare!r}")
    wanted, own = COMPARE[compare], mean.done.model.family.link.name
    if mean.quantity.whole:
        return LINKS[wanted]
    if wanted != own:
        raise ValueError(f"{needs_link(compare, own)}give scale='response', which compares means")
    return None


def needs_link(compare: str, own: str) -> str:
    """What a comparison of linear predictors lacks under the link of a fit, as far as a colon."""
    there = [word for word, link in COMPARE.items() if link == own and link != "identity"]
    return (
        f"compare={compare!r} of linear predictors needs the {COMPARE[compare]} link, and this fit "
        f"has {own!r}: {f'take compare={there[0]!r}, or ' if there else ''}"
    )


def _of_covariate(mean: MeanPart, name: str, offset: float | None) -> dict[str, MeanFunction]:
    """The slope of a number; of a category every level against its reference."""
    column = mean.covariates[name]
    made = mean.spec.levels_of(name)
    if column.variable.kind == "number" and not made:
        return {name: _slope(mean, name, offset)}
    levels = made or covariate_values(column, 0)
    base = _set(mean, {name: levels[0]}, offset)
    return {
        f"{name}: {level} - {levels[0]}": _set(mean, {name: level}, offset) - base
        for level in levels[1:]
    }


def _slope(mean: MeanPart, name: str, offset: float | None) -> MeanFunction:
    """{8 (f(h) - f(-h)) - (f(2h) - f(-2h))} / 12 h, whose error is of the order h^4."""
    x = mean.sample[name]
    h = STEP * (float(x.max() - x.min()) or 1.0)
    near, far = (
        mean.average(mean.sample.assign(**{name: x + step}), offset)
        - mean.average(mean.sample.assign(**{name: x - step}), offset)
        for step in (h, 2 * h)
    )
    return near / (1.5 * h) - far / (12 * h)


def _set(mean: MeanPart, setting: Mapping[str, Any], offset: float | None) -> MeanFunction:
    """The mean of the quantity with some covariates of every row set to a value."""
    size = len(mean.sample)
    fixed = mean.frame(setting, size)[list(setting)]
    changed = mean.sample.assign(**{name: fixed[name].array for name in setting})
    return mean.average(changed, offset)


def _table(
    mean: MeanPart,
    found: dict[str, MeanFunction],
    level: float,
    title: str,
    *,
    ratios: bool = False,
) -> pd.DataFrame:
    for label, one in found.items():
        if one.departures.reason:
            warn_user(f"{label} is not estimable: {one.departures.reason}")
    parts = [
        spread_table(mean.spread(one), [label], level, ratios=ratios)
        for label, one in found.items()
    ]
    return ResultTable(pd.concat(parts), title=title)


def _label(one: Mapping[str, Any], other: Mapping[str, Any], sign: str) -> str:
    """A comparison in few words: trt: progabide - placebo."""
    if list(one) == list(other) and len(one) == 1:
        (name,), (first,), (second,) = one, one.values(), other.values()
        negative = isinstance(second, int | float) and second < 0
        return f"{name}: {first} {sign} {f'({second})' if negative else second}"
    return f"{_words(one)} {sign} {_words(other)}"


def _words(setting: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in setting.items())
