"""Warnings that point at the user's line, whichever function of the package they come from."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

__all__ = ["warn_user"]

PACKAGE = __name__.partition(".")[0]


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line that called into the package, past what the package itself calls through."""
    level, outside = 2, 2
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        level += 1  # of its caller
        if frame.f_globals.get("__name__", "").partition(".")[0] == PACKAGE:
            outside = level
        frame = frame.f_back
    warnings.warn(message, category, stacklevel=outside)
