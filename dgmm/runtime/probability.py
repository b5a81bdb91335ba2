"""The level of an interval, checked in one place."""

from __future__ import annotations

from numbers import Real

__all__ = ["check_level"]


def check_level(level: float) -> None:
    """Refuse what is no probability that an interval could have.

    Raises:
        ValueError: a level that is not between 0 and 1.
    """
    if not isinstance(level, Real) or not 0 < level < 1:
        raise ValueError(f"level is a probability between 0 and 1, not {level!r}")
