"""A file that a long fit writes as it goes, and from which the same call goes on.

A fit trains one thing after the other: the part for the held-out score, each start, the encoder at
theta-hat. The file holds the results of the trainings that are finished and where the last one
stands, its random numbers included; what is in it has a name, not a position. What lies between
trainings is calculated again, so the fit ends where it would have ended without the interruption,
to the last bit.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from dgmm.runtime.tensor_file import Kind, read_tensors, write_tensors
from dgmm.runtime.warned import warn_user
from dgmm.runtime.whole_file import discard_part

__all__ = ["Checkpoint", "Saved"]

KIND = Kind("dgmm checkpoint, format 2", "a checkpoint", "Delete it to begin the fit anew")


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
    _told: bool = False

    def check(self) -> None:
        """Refuse, before anything is calculated, a path that cannot be written or another fit's.

        Raises:
            ValueError: no such folder, or one that may not be written to; a file that is not the
                checkpoint of this fit.
        """
        folder = self.path.parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            why = "may not be written to" if folder.is_dir() else "does not exist"
            raise ValueError(
                f"the checkpoint {str(self.path)!r} cannot be written: its folder {why}"
            )
        self._read()

    def next(self) -> tuple[int, Saved | None]:
        """The number of the training that begins now, and where it stood if it had begun."""
        if not self._asked:
            self._saved = self._read()
        number = self._asked
        self._asked += 1
        return number, self._saved[number] if number < len(self._saved) else None

    def write(self, number: int, saved: Saved) -> None:
        """Keep where a training stands; a disk that is full is no reason to end a fit.

        The file then stays as it was last written, and a warning says so, once.
        """
        self._saved[number:] = [saved]
        tensors = {
            f"{at}/{name}": value
            for at, one in enumerate(self._saved)
            for name, value in one.tensors.items()
        }
        numbers = [one.numbers for one in self._saved]
        content = {"identity": self.identity, "trainings": numbers}
        try:
            write_tensors(self.path, KIND, tensors, content)
        except OSError as error:
            if not self._told:
                self._told = True
                warn_user(f"the fit goes on without a new checkpoint: {error.strerror}")

    def branch(self, name: str) -> Checkpoint:
        """A file of its own for trainings that may run at the same time."""
        path = self.path.with_name(f"{self.path.name}.{name}")
        return Checkpoint(path, self.identity, self.every)

    def _read(self) -> list[Saved]:
        discard_part(self.path)
        if not self.path.exists():
            return []
        tensors, content = read_tensors(self.path, KIND)
        self._compare(content["identity"])
        return [
            Saved(
                {
                    name.partition("/")[2]: value
                    for name, value in tensors.items()
                    if name.partition("/")[0] == str(number)
                },
                numbers,
            )
            for number, numbers in enumerate(content["trainings"])
        ]

    def _compare(self, written: dict[str, str]) -> None:
        names = [*self.identity, *(name for name in written if name not in self.identity)]
        differ = [name for name in names if self.identity.get(name) != written.get(name)]
        if differ:
            raise ValueError(
                f"the checkpoint {str(self.path)!r} was written by another fit; different: "
                f"{', '.join(differ)}. Call with what it was written for, or give another path."
            )
