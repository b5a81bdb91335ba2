"""The options of a prediction, checked at the door."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

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
    level: float | Sequence[float]
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
        if not self.levels:
            raise ValueError("level has no probability: give one, or several, as in [0.5, 0.95]")
        for level in self.levels:
            check_level(level)

    @property
    def levels(self) -> tuple[float, ...]:
        """The levels of intervals, from the narrowest to the widest."""
        if isinstance(self.level, str) or not isinstance(self.level, Iterable):
            return (self.level,)
        for level in self.level:
            check_level(level)
        return tuple(sorted(set(self.level)))

    def ends(self, of: Callable[[float], Tensor]) -> dict[str, Tensor]:
        """The columns of the ends of intervals, which ``of`` gives for one level, (N, 2).

        Of several levels their names end in the level in per cent.
        """
        found: dict[str, Tensor] = {}
        for level in self.levels:
            name = f"_{100 * level:g}" if isinstance(self.level, Iterable) else ""
            lower, upper = of(level).unbind(1)
            found |= {f"lower{name}": lower, f"upper{name}": upper}
        return found
