"""A finding: what a check saw, what it means, what to try."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dgmm.diagnostics.evidence import Evidence

__all__ = ["LOOK", "OK", "POOR", "Check", "Finding"]

OK, LOOK, POOR = "ok", "look", "poor"


@dataclass(frozen=True)
class Finding:
    """One line of a page of checks.

    verdict: "ok", "look" (usable with care) or "poor" (not usable before something is done); of a
        test it follows from ``p`` among all tests.
    """

    check: str
    said: str
    verdict: str = OK
    meaning: str = ""
    advice: str = ""
    statistic: float = np.nan
    df: int = 0
    p: float = np.nan


Check = Callable[[Evidence], Finding | None]
"""Looks at one thing; None where the fit has nothing of the kind."""
