"""Files written in one go: at any moment, and after any failure, there is the old or the new."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from dgmm.runtime.listing import shortened

__all__ = ["discard_part", "path_of", "write_whole"]


def path_of(given: Any, function: str) -> Path:
    """Return the path of a file as the user gave it to a function.

    Raises:
        TypeError: something else.
    """
    if not isinstance(given, str | os.PathLike):
        raise TypeError(f"{function}() needs the path of a file, not {shortened(given)}")
    return Path(given)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file beside the old one, which it then replaces.

    Raises:
        OSError: the file could not be written; the message names it and says why.
    """
    try:
        _replace(path, data)
    except OSError as error:
        why = "it is a folder" if os.path.isdir(path) else error.strerror  # noqa: PTH112
        said = f"{str(path)!r} could not be written ({why}); what stood there is unchanged"
        raise OSError(error.errno, said) from error


def discard_part(path: Path) -> None:
    """Remove what a write that was killed has left beside the file."""
    with contextlib.suppress(OSError):
        _beside(path).unlink(missing_ok=True)


def _replace(path: Path, data: bytes) -> None:
    beside = _beside(path)
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(beside.with_suffix(""))
    except BaseException:
        discard_part(path)
        raise
    with contextlib.suppress(OSError):  # the new name, too, outlives a power cut; not on Windows
        folder = os.open(beside.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _beside(path: Path) -> Path:
    """Where the new file grows: in the folder of the old one, links followed."""
    return Path(os.path.realpath(path) + ".part")
