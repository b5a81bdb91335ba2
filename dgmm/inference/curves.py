"""Effects: a quantity over a grid of a covariate, with pointwise and simultaneous bands.

    fit +- z se pointwise,   fit +- c se simultaneously,
    c the quantile of max_g |d_g| / se_g,  d ~ N(0, J V J')

over the points g of the grid; of a mean the bands are those of its link scale. Ruppert, Wand
and Carroll (2003), Semiparametric Regression, 6.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import special
from torch import Tensor

from dgmm.design import covariate_values
from dgmm.families.links import Link
from dgmm.inference.average_slopes import stated
from dgmm.inference.mean_part import MeanPart
from dgmm.information import Spread
from dgmm.runtime.probability import check_level
from dgmm.runtime.result_table import ResultTable
from dgmm.runtime.warned import warn_user

__all__ = ["curve_table", "simultaneous_factor"]

DRAWS = 10_000
SECOND = 5
"""Points of the grid of a second, numeric covariate."""


def curve_table(
    mean: MeanPart,
    covariates: str | Sequence[str],
    *,
    term: str | None,
    at: Mapping[str, Any] | None,
    offset: float | None,
    grid: int,
    level: float,
    seed: int,
) -> pd.DataFrame:
    """See :meth:`dgmm.fit.Fit.effects`."""
    focal = [covariates] if isinstance(covariates, str) else list(covariates)
    if not focal or len(focal) > 2:
        raise ValueError(f"effects() takes one or two covariates, not {len(focal)}")
    check_level(level)
    if not isinstance(grid, int | np.integer) or grid < 2:
        raise ValueError(f"grid is a number of points, at least 2, not {grid!r}")
    if at is not None and not isinstance(at, Mapping):
        raise TypeError(f"at is a dict of covariates and values, not {at!r}")
    given = dict(at or {})
    if offset is not None and (term is not None or not np.isfinite(offset)):
        why = "a term alone has none" if term is not None else f"not {offset!r}"
        raise ValueError(f"offset is a number that the whole fixed part is held at: {why}")
    mean.check(focal)
    mean.check_values(given, "at=", mean.of_offset)
    columns = _grid(mean, focal, given, grid)
    size = len(columns[focal[0]])
    frame = mean.frame({**given, **columns}, size)
    if term is not None and mean.quantity.whole:
        raise ValueError(
            f"term={term!r} is a part of the linear predictor and has no mean of its own: leave "
            "scale='response' out"
        )
    found = mean.mean(frame, offset) if term is None else mean.term(term, frame)
    spread = mean.spread(found)
    if found.departures.message:
        warn_user(f"effects(): {found.departures.message}")
    for label in mean.silent(frame):
        if term in (None, label):
            warn_user(
                f"effects(): {label} has fallen silent, and the band takes it as known that there "
                "is no curve: it is too narrow where there is a weak one"
            )
    link, z = mean.quantity.link, float(special.ndtri(0.5 + level / 2))
    c = max(z, simultaneous_factor(spread, level, seed))
    bands = {"fit": spread.value.numpy(), "se": spread.se.numpy()}
    for names, factor in ((("lower", "upper"), z), (("sim_lower", "sim_upper"), c)):
        ends = _band(spread, link, factor).numpy()
        bands |= dict(zip(names, ends.T, strict=True))
    if spread.posterior:  # pointwise quantiles of the draws, which know no normal distribution
        bands["lower"], bands["upper"] = spread.interval(level).numpy().T
    if term is None and mean.has_offset:
        bands = {"offset": mean.offsets(frame, offset).numpy(), **bands}
    title = stated(mean, "Effects" if term is None else f"Effects of {term} alone", offset)
    return ResultTable({**columns, **bands}, title=title)


def _band(spread: Spread, link: Link, factor: float) -> Tensor:
    """The ends fit +- factor se on the scale of a link, back on that of the quantity, (G, 2)."""
    middle = link.forward(spread.value)
    half = factor * spread.se / link.derivative(middle).abs()
    return link.inverse(torch.stack([middle - half, middle + half], dim=1)).sort(dim=1).values


def _grid(
    mean: MeanPart, focal: list[str], given: dict[str, Any], size: int
) -> dict[str, list[Any]]:
    """The columns of the grid: all combinations, the first covariate running fastest."""
    axes = []
    for place, name in enumerate(focal):
        if name in given:
            axes.append(list(np.atleast_1d(np.asarray(given[name], dtype=object))))
        else:
            levels, points = mean.spec.levels_of(name), SECOND if place else size
            axes.append(list(covariate_values(mean.covariates[name], points, levels)))
    rows = [row[::-1] for row in product(*axes[::-1])]
    return {name: [row[j] for row in rows] for j, name in enumerate(focal)}


def simultaneous_factor(spread: Spread, level: float, seed: int, draws: int = DRAWS) -> float:
    """The ``level`` quantile of max_g |d_g| / se_g over draws d ~ N(0, covariance)."""
    se = spread.se
    largest = float(se.nan_to_num(nan=0.0).max())
    known = torch.nonzero(se > 1e-8 * max(largest, 1e-300))[:, 0]
    if not len(known):
        return 0.0
    scale = torch.zeros(len(known), len(se), dtype=torch.float64)
    scale[torch.arange(len(known)), known] = 1 / se[known]
    value, vector = torch.linalg.eigh(spread.combined(scale).covariance)
    root = vector * value.clamp(min=0).sqrt()
    root = root[:, value > 1e-10 * value[-1]]
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(root.shape[1], draws, generator=generator, dtype=torch.float64)
    largest = (root @ normal).abs().max(0).values
    return float(torch.quantile(largest, level))
