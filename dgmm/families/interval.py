"""Families of outcomes on an interval: its ends, the check of outcomes, the link of the mean."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from dgmm.families.base import Family, refuse
from dgmm.families.links import Link, between
from dgmm.families.naming import Bounds

__all__ = ["OnInterval"]


class OnInterval(Family):
    """A density on (lower, upper), which with ``closed`` has mass at both ends too."""

    support = "interval"
    bounded = True
    closed: ClassVar[bool] = False

    def __init__(self, link: str | None = None, bounds: Bounds | None = None) -> None:
        super().__init__(link)
        lower, upper = (0.0, 1.0) if bounds is None else bounds
        if lower is None or upper is None or not -np.inf < lower < upper < np.inf:
            raise ValueError(
                f"family {self.name!r} needs bounds=(a, b) with finite a < b, found "
                f"bounds={bounds!r}"
            )
        self.bounds = float(lower), float(upper)

    @property
    def width(self) -> float:
        """Length of the interval."""
        return self.bounds[1] - self.bounds[0]

    def options(self) -> dict[str, object]:
        return {"link": self.link.name, "bounds": self.bounds}

    def read(
        self, y: np.ndarray, trials: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        y, trials, weights = self.per_trial(y, trials, weights)
        lower, upper = self.bounds
        if self.closed:
            message = f"family {self.name!r} needs outcomes from {lower:g} to {upper:g}"
            refuse((y < lower) | (y > upper), y, message, "Give the interval as bounds=(a, b).")
        else:
            refuse(
                (y <= lower) | (y >= upper),
                y,
                f"family {self.name!r} needs outcomes strictly between {lower:g} and {upper:g}",
                "For outcomes at the ends use family='ordered_beta'; another range is "
                "bounds=(a, b).",
            )
        return y, trials, weights

    @property
    def atoms(self) -> tuple[float, ...]:
        return self.bounds if self.closed else ()

    @property
    def mean_link(self) -> Link:
        return between(*self.bounds)
