"""Where the knots of a spline stand, as in R: boundary at the range, the others at quantiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dgmm.transforms.stateful import Values


def boundary_knots(x: Values, given: Sequence[float] | None, name: str) -> np.ndarray:
    """Return the two ends, (2,): the range of x unless given."""
    ends = np.sort(np.asarray(x.ends if given is None else given, float))
    if ends.shape != (2,) or not np.all(np.isfinite(ends)):
        raise ValueError(f"{name}(): boundary_knots= are two finite numbers")
    if ends[0] == ends[1]:
        raise ValueError(f"{name}(): all values are {ends[0]:g}; a spline needs two or more")
    return ends


def interior_knots(
    x: Values,
    count: int,
    given: Sequence[float] | float | None,
    ends: np.ndarray,
    name: str,
    ties: str = "error",
) -> np.ndarray:
    """Return the interior knots: as given, or `count` quantiles (R's type 7) within the ends.

    Knots that coincide, with each other or with an end, are an error; `ties="merge"` leaves the
    repeated ones out, which gives fewer columns than asked for.
    """
    if ties not in ("error", "merge"):
        raise ValueError(f"{name}(): ties= is 'error' or 'merge', not {ties!r}")
    if given is None:
        at = np.linspace(0, 1, count + 2)[1:-1]
        knots = x.quantiles(at, ends[0], ends[1]) if count else np.empty(0)
    else:
        knots = np.sort(np.atleast_1d(np.asarray(given, dtype=float)))
        if knots.size and not (ends[0] < knots[0] and knots[-1] < ends[1]):
            raise ValueError(f"{name}(): knots= must lie inside {ends[0]:g} to {ends[1]:g}")
    if ties == "merge":
        distinct = np.unique(knots)
        return distinct[(distinct > ends[0]) & (distinct < ends[1])]
    _refuse_ties(knots, ends, name)
    return knots


def _refuse_ties(knots: np.ndarray, ends: np.ndarray, name: str) -> None:
    """R returns a rank-deficient basis here without a word; better to say which value is tied."""
    places = np.r_[ends[0], knots, ends[1]]
    tied = places[1:][np.diff(places) <= 0]
    if tied.size:
        shown = ", ".join(f"{value:g}" for value in knots)
        raise ValueError(
            f"{name}(): several knots fall on {tied[0]:g} because many rows share that value "
            f"(knots at {shown} within {ends[0]:g} to {ends[1]:g}); "
            f"use a smaller df or place them yourself: {name}(x, knots=(...))"
        )
