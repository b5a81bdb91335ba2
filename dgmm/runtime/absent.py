"""What stands in the place of rows that are not in memory: whoever needs them is told so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

__all__ = ["ABSENT", "WHY", "Absent"]

WHY = (
    "needs every row of the fit, and they are not in memory: data= was read in batches, of which "
    "the fit keeps sums by subject. Give newdata= where the function has it, or fit a data frame "
    "with fewer subjects"
)
ABSENT = f"this {WHY}"


@dataclass(frozen=True)
class Absent:
    """A record or a mapping of which only some parts, ``known``, are there.

    Raises:
        ValueError: any other part is asked for.
    """

    known: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        known = {} if name == "known" else self.known
        if name in known:
            return known[name]
        if name.startswith("__"):  # what copying and printing ask every object for
            raise AttributeError(name)
        _refuse()

    def __getitem__(self, key: Any) -> Any:
        _refuse()

    def __iter__(self) -> Iterator[Any]:
        _refuse()

    def __len__(self) -> int:
        _refuse()

    def __contains__(self, key: Any) -> bool:
        _refuse()


def _refuse() -> NoReturn:
    raise ValueError(ABSENT)
