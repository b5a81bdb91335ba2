"""A file that a long fit writes as it goes, and from which the same call goes on.

A fit trains one thing after the other: the part for the held-out score, each start, the encoder at
theta-hat. The file holds the results of the trainings that are finished and where the last one
stands, its random numbers included. What lies between trainings is calculated again, so the fit
ends where it would have ended without the interruption, to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from dgmm.runtime.tensor_file import read_tensors, write_tensors

__all__ = ["Checkpoint", "Saved"]

FORMAT = "dgmm checkpoint, format 1"


class Saved(NamedTuple):
    """Where one training stands."""

    tensors: dict[str, Tensor]
    numbers: dict[str, Any]  # what JSON can hold; floats come back exactly


@dataclass
class Checkpoint:
    """The trainings of one fit, in their order; the file is read when the first one asks.

    identity: by name what the fit is made of (formula, columns, options): a file with another
        identity is refused.
    every: epochs between two writings.
    """

    path: Path
    identity: dict[str, str]
    every: int = 10
    _saved: list[Saved] = field(default_factory=list, repr=False)
    _asked: int = 0

    def next(self) -> tuple[int, Saved | None]:
        """The number of the training that begins now, and where it stood if it had begun."""
        if not self._asked:
            self._saved = self._read()
        number = self._asked
        self._asked += 1
        return number, self._saved[number] if number < len(self._saved) else None

    def write(self, number: int, saved: Saved) -> None:
        """Keep where a training stands."""
        self._saved[number:] = [saved]
        tensors = {
            f"{at}/{name}": value
            for at, one in enumerate(self._saved)
            for name, value in one.tensors.items()
        }
        numbers = [one.numbers for one in self._saved]
        header = {"format": FORMAT, "identity": self.identity, "trainings": numbers}
        write_tensors(self.path, tensors, header)

    def branch(self, name: str) -> Checkpoint:
        """A file of its own for trainings that may run at the same time."""
        path = self.path.with_name(f"{self.path.name}.{name}")
        return Checkpoint(path, self.identity, self.every)

    def _read(self) -> list[Saved]:
        if not self.path.exists():
            return []
        other = f"{str(self.path)!r} is not a checkpoint written by this version; give another path"
        tensors, header = read_tensors(self.path, other)
        if header.get("format") != FORMAT:
            raise ValueError(other)
        self._compare(header["identity"])
        return [
            Saved(
                {
                    name.partition("/")[2]: value
                    for name, value in tensors.items()
                    if name.partition("/")[0] == str(number)
                },
                numbers,
            )
            for number, numbers in enumerate(header["trainings"])
        ]

    def _compare(self, written: dict[str, str]) -> None:
        names = [*self.identity, *(name for name in written if name not in self.identity)]
        differ = [name for name in names if self.identity.get(name) != written.get(name)]
        if differ:
            raise ValueError(
                f"the checkpoint {str(self.path)!r} was written by another fit; different: "
                f"{', '.join(differ)}. Call with what it was written for, or give another path."
            )
