"""Warnings that point at the user's line, whichever function of the package they come from."""

from __future__ import annotations

import sys
import warnings

__all__ = ["warn_user"]

PACKAGE = __name__.partition(".")[0]


def warn_user(message: str) -> None:
    """Warn at the nearest line outside of the package."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals["__name__"].partition(".")[0] == PACKAGE:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
