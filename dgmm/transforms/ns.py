"""`ns(x, df)`: the natural cubic spline basis of R's splines::ns, linear outside the data."""

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
    intercept: bool = False,
    boundary_knots: Sequence[float] | None = None,
    ties: str = "error",
) -> State:
    values = learnt(x, "ns")
    ends = _boundary(values, boundary_knots, "ns")
    count = 0 if df is None else whole(df, "df of ns()", 1 + intercept) - 1 - intercept
    inner = interior_knots(values, count, knots, ends, "ns", ties)
    t = np.r_[[ends[0]] * 4, inner, [ends[1]] * 4]
    # The second derivative vanishes at both ends: the basis spans the null space of C (2, nb).
    C = _splines(t).derivative(2)(ends)[:, 0 if intercept else 1 :]
    Q = np.linalg.qr(C.T, mode="complete")[0][:, 2:]
    return {"knots": t.tolist(), "intercept": bool(intercept), "null_space": Q.tolist()}


def _apply(x: object, state: State) -> np.ndarray:
    values = numbers(x, "ns")
    t = np.asarray(state["knots"], dtype=float)
    splines = _splines(t)
    inside = np.clip(values, t[0], t[-1])
    basis = splines(inside)
    outside = inside != values
    if outside.any():
        basis[outside] += (values - inside)[outside, None] * splines.derivative()(inside[outside])
    basis[np.isnan(values)] = np.nan
    return basis[:, 0 if state["intercept"] else 1 :] @ np.asarray(state["null_space"], float)


def _splines(t: np.ndarray) -> BSpline:
    """Return all cubic B-splines on the knots t as one vector-valued spline."""
    return BSpline(t, np.eye(len(t) - 4), 3)


ns = Stateful("ns", _fit, _apply)
