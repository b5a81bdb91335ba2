"""Estimated marginal means: a quantity over a grid of factors, averaged over the others.

    m_k = sum_g w_kg f(x_g),   var(m) = L V L'

over the cells g of a reference grid, numbers at their means. Weights of the cells averaged over:

    equal          every cell the same
    proportional   the frequencies of the averaged-over combinations in the observed rows
    sample         no grid: f averaged over the observed rows, with the factors of m_k set in each

Searle, Speed and Milliken (1980), American Statistician 34, 216-221; Lenth's emmeans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from dgmm.design import covariate_values, names_of
from dgmm.inference.average_slopes import stated
from dgmm.inference.comparisons import Means
from dgmm.inference.mean_part import MeanFunction, MeanPart
from dgmm.inference.small_samples import SmallSamples
from dgmm.runtime.listing import listed
from dgmm.runtime.probability import check_level

__all__ = ["marginal_means"]

WEIGHTS = ("equal", "proportional", "sample")

MOST = 200_000
"""Cells of a reference grid."""


def marginal_means(
    mean: MeanPart,
    names: str | Sequence[str],
    *,
    by: str | Sequence[str] | None,
    at: Mapping[str, Any] | None,
    weights: str,
    offset: float | None,
    moments: SmallSamples | None,
    df: float,
    level: float,
) -> Means:
    """See :meth:`dgmm.fit.Fit.emmeans`."""
    own, groups = _names(names), _names(by or ())
    given = {name: _values(value) for name, value in (at or {}).items()}
    _check(mean, own, groups, given, weights, level)
    axes = {name: _levels(mean, name, given) for name in (*own, *groups)}
    rows = [row[::-1] for row in product(*list(axes.values())[::-1])]
    cells = pd.DataFrame(
        {name: pd.Series([row[j] for row in rows], dtype=object) for j, name in enumerate(axes)}
    )
    rest = {name: value for name, value in given.items() if name not in axes}
    held = 0.0 if offset is None else offset
    average = _over_sample if weights == "sample" else _over_grid
    function, over = average(mean, cells, rest, weights, held)
    notes = [] if not over else [f"averaged over {', '.join(over)} ({weights} weights)"]
    notes += _interactions(mean, cells.columns, over) if weights != "sample" else []
    notes += _estimable(function, cells)
    return Means.of(
        mean,
        function,
        cells,
        by=tuple(groups),
        title=stated(mean, "Marginal means", held),
        notes=tuple(notes),
        moments=moments,
        df=df,
        level=level,
    )


def _names(given: str | Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _values(given: Any) -> list[Any]:
    return list(np.atleast_1d(np.asarray(given, dtype=object)))


def _check(
    mean: MeanPart,
    own: list[str],
    groups: list[str],
    given: Mapping[str, Any],
    weights: str,
    level: float,
) -> None:
    if not own:
        raise ValueError("emmeans() needs the name of at least one covariate")
    mean.check((*own, *groups))
    mean.check_values(given, "at=", mean.of_offset)
    for name, values in given.items():
        if not len(np.atleast_1d(np.asarray(values, dtype=object))):
            raise ValueError(f"at= has no value of `{name}`")
    twice = [name for name in own if name in groups]
    if twice:
        raise ValueError(f"{twice[0]!r} is in both the means and by=")
    if weights not in WEIGHTS:
        raise ValueError(f"weights is {', '.join(map(repr, WEIGHTS))}, not {weights!r}")
    check_level(level)


def _levels(mean: MeanPart, name: str, given: Mapping[str, list[Any]]) -> list[Any]:
    """Values asked for; else every level, or the mean of a number."""
    if name in given:
        return given[name]
    column, made = mean.covariates[name], mean.spec.levels_of(name)
    if column.variable.kind == "number" and not made:
        return [mean.typical[name]]
    return list(covariate_values(column, 0, made))


def _over_sample(
    mean: MeanPart, cells: pd.DataFrame, rest: Mapping[str, list[Any]], weights: str, offset: float
) -> tuple[MeanFunction, list[str]]:
    """The mean over the observed rows, with the covariates of every cell set in each."""
    several = [name for name, values in rest.items() if len(values) > 1]
    if several:
        raise ValueError(
            f"`{several[0]}` has several values in at=, which weights='sample' does not average: "
            "name it in by="
        )
    size, held = len(mean.sample), {name: values[0] for name, values in rest.items()}
    found = []
    for _, cell in cells.iterrows():
        setting = {**held, **cell.to_dict()}
        fixed = mean.frame(setting, size)[list(setting)]
        changed = mean.sample.assign(**{name: fixed[name].array for name in setting})
        found.append(mean.average(changed, offset))
    return MeanFunction.stacked(found), ["the observed rows"]


def _over_grid(
    mean: MeanPart, cells: pd.DataFrame, rest: Mapping[str, list[Any]], weights: str, offset: float
) -> tuple[MeanFunction, list[str]]:
    """The mean over the cells of a grid of the other factors, numbers at their means."""
    others = {
        name: _levels(mean, name, rest)
        for name in dict.fromkeys((*mean.own, *rest))
        if name not in cells.columns
    }
    over = [name for name, values in others.items() if len(values) > 1]
    inner = pd.DataFrame(list(product(*others.values())), columns=list(others), dtype=object)
    if len(cells) * len(inner) > MOST:
        raise ValueError(
            f"the reference grid has {len(cells)} x {len(inner)} cells: use weights='sample', or "
            f"hold some of {', '.join(over)} by at="
        )
    share = np.full(len(inner), 1 / len(inner))
    if weights == "proportional" and over:
        share = _frequencies(mean, inner, [name for name in over if name not in rest])
    whole = cells.merge(inner, how="cross") if len(inner.columns) else cells
    columns = {name: whole[name].to_list() for name in whole}
    L = np.kron(np.eye(len(cells)), share[None])
    function = mean.mean(mean.frame(columns, len(whole)), offset)
    return function.combined(L) if L.shape[1] > L.shape[0] else function, over


def _frequencies(mean: MeanPart, inner: pd.DataFrame, counted: list[str]) -> np.ndarray:
    """Shares of the combinations of some factors in the observed rows, (G,)."""
    if not counted:
        return np.full(len(inner), 1 / len(inner))
    seen = mean.sample[counted].astype(object).value_counts()
    keys = inner[counted].itertuples(index=False, name=None)
    count = np.array([float(seen.get(key if len(counted) > 1 else key[0], 0)) for key in keys])
    return count / count.sum()


def _interactions(mean: MeanPart, own: Sequence[str], over: Sequence[str]) -> list[str]:
    """Which covariates averaged over change the differences between the means."""
    found = []
    for term in dict.fromkeys(one for one in mean.terms if ":" in one):
        used = {name for part in term.split(":") for name in names_of(part, mean.covariates)}
        if used & set(own) and used & set(over):
            found.append(f"`{term}`")
    if not found:
        return []
    return [f"averages over an interaction, {listed(found)}: differences depend on its levels"]


def _estimable(function: MeanFunction, cells: pd.DataFrame) -> list[str]:
    """Which means have no estimate, and why."""
    lost = ~function.departures.estimable
    if not lost.any():
        return []
    named = [
        ", ".join(f"{name} = {value}" for name, value in cell.items())
        for _, cell in cells[lost].iterrows()
    ]
    return [f"not estimable: {'; '.join(named)}: {function.departures.reason}"]
