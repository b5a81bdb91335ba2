"""`bs(x, df, degree=3)`: the B-spline basis of R's splines::bs, polynomial outside the data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import BSpline

from dgmm.transforms.knots import boundary_knots as _boundary
from dgmm.transforms.knots import interior_knots
from dgmm.transforms.stateful import State, Stateful, learnt, numbers, whole


def _fit(
    x: object,
    df: int | None = None,
    knots: Sequence[float] | float | None = None,
    degree: int = 3,
    intercept: bool = False,
    boundary_knots: Sequence[float] | None = None,
) -> State:
    values = learnt(x, "bs")
    degree = whole(degree, "degree of bs()", 1)
    ends = _boundary(values, boundary_knots, "bs")
    least = degree + intercept
    count = 0 if df is None else whole(df, "df of bs()", least) - least
    inner = interior_knots(values, count, knots, ends, "bs")
    t = np.r_[[ends[0]] * (degree + 1), inner, [ends[1]] * (degree + 1)]
    return {"knots": t.tolist(), "degree": degree, "intercept": bool(intercept)}


def _apply(x: object, state: State) -> np.ndarray:
    values = numbers(x, "bs")
    t, degree = np.asarray(state["knots"], dtype=float), int(state["degree"])
    basis = BSpline(t, np.eye(len(t) - degree - 1), degree, extrapolate=True)(values)
    basis[np.isnan(values)] = np.nan
    return basis[:, 0 if state["intercept"] else 1 :]


bs = Stateful("bs", _fit, _apply)
