"""The options of a prediction, checked at the door."""

from __future__ import annotations

from dataclasses import dataclass

from dgmm.runtime.probability import check_level
from dgmm.runtime.registry import suggestion

__all__ = ["Wanted"]

TYPES = ("subject", "mean_subject", "marginal", "one_step")
SCALES = ("response", "link", "categories")
INTERVALS = (None, "confidence", "prediction")
NEW_GROUPS = ("population", "error")
THETA = ("estimated", "held")


@dataclass(frozen=True)
class Wanted:
    """The checked options of a prediction."""

    type: str
    scale: str
    interval: str | None
    level: float
    new_groups: str
    draws: int
    theta: str = "estimated"

    def __post_init__(self) -> None:
        options = (
            ("type", self.type, TYPES),
            ("scale", self.scale, SCALES),
            ("interval", self.interval, INTERVALS),
            ("new_groups", self.new_groups, NEW_GROUPS),
            ("theta", self.theta, THETA),
        )
        for name, value, known in options:
            if value not in known:
                words = [str(word) for word in known]
                others = [other for other, _, theirs in options if value in theirs]
                hint = f"; did you mean {others[0]}={value!r}?" if others else ""
                hint = hint or suggestion(str(value), words)
                raise ValueError(f"{name}={value!r} is not one of {', '.join(words)}{hint}")
        if self.draws < 1:
            raise ValueError(f"draws is a number of draws, at least 1, not {self.draws!r}")
        check_level(self.level)
