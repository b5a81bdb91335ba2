"""Average slopes and contrasts of covariates, linear or inside networks, by the delta method.

slope      mean over the sample of d mu1 / d x
contrast   mean over the sample of mu1(x = one) - mu1(x = other)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dgmm.design import covariate_values
from dgmm.inference.mean_part import MeanFunction, MeanPart
from dgmm.inference.wald import wald_table
from dgmm.runtime.warned import warn_user

__all__ = ["average_contrast", "average_slopes"]

STEP = 1e-4
"""Share of the range of a covariate by which it is moved to either side."""


def average_slopes(
    mean: MeanPart, covariates: str | Sequence[str] | None, level: float
) -> pd.DataFrame:
    """See :meth:`dgmm.fit.Fit.slopes`."""
    chosen = [covariates] if isinstance(covariates, str) else list(covariates or mean.own)
    mean.check(chosen)
    found: dict[str, MeanFunction] = {}
    for name in chosen:
        found |= _of_covariate(mean, name)
    return _table(mean, found, level)


def average_contrast(
    mean: MeanPart, one: Mapping[str, Any], other: Mapping[str, Any], level: float
) -> pd.DataFrame:
    """See :meth:`dgmm.fit.Fit.contrast`."""
    for setting in (one, other):
        if not isinstance(setting, Mapping) or not setting:
            raise TypeError(f"a setting is a dict of covariates and values, not {setting!r}")
        mean.check(setting)
        for name, value in setting.items():
            if np.ndim(value):
                raise ValueError(f"`{name}` is set to one value in a contrast, not to {value!r}")
    label = f"{_words(one)} - {_words(other)}"
    return _table(mean, {label: _set(mean, one) - _set(mean, other)}, level)


def _of_covariate(mean: MeanPart, name: str) -> dict[str, MeanFunction]:
    """The slope of a number; of a category every level against its reference."""
    column = mean.covariates[name]
    made = mean.spec.levels_of(name)
    if column.variable.kind == "number" and not made:
        x = mean.sample[name]
        h = STEP * (float(x.max() - x.min()) or 1.0)
        up = mean.average(mean.sample.assign(**{name: x + h}))
        down = mean.average(mean.sample.assign(**{name: x - h}))
        return {name: (up - down) / (2 * h)}
    levels = made or covariate_values(column, 0)
    base = _set(mean, {name: levels[0]})
    return {
        f"{name}: {level} - {levels[0]}": _set(mean, {name: level}) - base for level in levels[1:]
    }


def _set(mean: MeanPart, setting: Mapping[str, Any]) -> MeanFunction:
    """The mean of mu1 with some covariates of every row set to a value."""
    size = len(mean.sample)
    fixed = mean.frame(setting, size)[list(setting)]
    return mean.average(mean.sample.assign(**{name: fixed[name].array for name in setting}))


def _table(mean: MeanPart, found: dict[str, MeanFunction], level: float) -> pd.DataFrame:
    if not 0 < level < 1:
        raise ValueError(f"level is a probability between 0 and 1, not {level!r}")
    for label, one in found.items():
        if one.departures.reason:
            warn_user(f"{label} is not estimable: {one.departures.reason}")
    spreads = [mean.spread(one) for one in found.values()]
    estimate = pd.Series([float(one.value) for one in spreads], index=list(found), dtype=float)
    error = pd.Series([float(one.se) for one in spreads], index=list(found), dtype=float)
    ends = [one.interval(level)[0].tolist() for one in spreads]
    table = wald_table(estimate, error)
    table[["lower", "upper"]] = np.array(ends).reshape(-1, 2)
    return table


def _words(setting: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in setting.items())
