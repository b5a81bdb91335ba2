"""Files of tensors: read as they were written, or refused in words; never half a file."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from dgmm.runtime.tensor_file import Kind, read_tensors, write_tensors

KIND = Kind("dgmm table, format 3", "a table", "Make it again")
CONTENT = {"words": ["β", "y ~ x"], "number": 1 / 3, "bound": -math.inf}


def tensors() -> dict[str, Tensor]:
    """Types, sizes and strides that differ."""
    return {
        "a": torch.arange(6.0, dtype=torch.float64).reshape(2, 3).T,
        "b": torch.tensor([True, False, True]),
        "c": torch.tensor(1 / 3),
        "d": torch.zeros(0, 4),
        "e/f": torch.tensor([3, -1]).expand(2, 2),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "some.table"
    write_tensors(path, KIND, tensors(), CONTENT)
    return path


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def same(found: tuple[dict[str, Tensor], Any]) -> bool:
    own = tensors()
    return (
        found[1] == CONTENT
        and set(found[0]) == set(own)
        and all(
            torch.equal(found[0][name], value) and found[0][name].dtype == value.dtype
            for name, value in own.items()
        )
    )


def test_what_was_written_is_read(path: Path) -> None:
    assert same(read_tensors(path, KIND))
    assert names(path.parent) == ["some.table"]


def test_the_same_content_makes_the_same_file(path: Path) -> None:
    again = path.with_name("again")
    write_tensors(again, KIND, tensors(), CONTENT)
    assert again.read_bytes() == path.read_bytes()


def test_a_link_stays_a_link(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    write_tensors(link, KIND, {}, [])
    assert link.is_symlink()
    assert read_tensors(path, KIND) == ({}, [])


# -- damage --------------------------------------------------------------------------------------


def test_no_byte_can_change_unnoticed(path: Path) -> None:
    """One bit of every byte."""
    whole = path.read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(ValueError, match="some.table' is (damaged|not a table)"):
            read_tensors(path, KIND)


def test_no_byte_can_be_missing(path: Path) -> None:
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="some.table' is (damaged|not a table)"):
            read_tensors(path, KIND)
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"is damaged: .* Make it again, or use another copy"):
        read_tensors(path, KIND)


def test_tensors_that_change_places_are_noticed(path: Path) -> None:
    """Same bytes, other names: a checksum of the bytes alone would be right."""
    own = {"a": torch.tensor([1.0]), "b": torch.tensor([2.0])}
    write_tensors(path, KIND, own, CONTENT)
    changed = path.read_bytes().replace(b'"a":{', b'"x":{').replace(b'"b":{', b'"a":{')
    path.write_bytes(changed.replace(b'"x":{', b'"b":{'))
    with pytest.raises(ValueError, match="is damaged"):
        read_tensors(path, KIND)


def test_no_memory_is_asked_for_what_is_not_there(path: Path) -> None:
    """An exabyte in a header of 200 bytes."""
    many = 10**17
    head = json.dumps({"format": KIND.form})
    entry = {"dtype": "F64", "shape": [many], "data_offsets": [0, 8 * many]}
    header = json.dumps({"__metadata__": {"dgmm": head}, "a": entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ValueError, match="is damaged"):
        read_tensors(path, KIND)
    path.write_bytes((10**18).to_bytes(8, "little") + header)
    with pytest.raises(ValueError, match="is damaged"):
        read_tensors(path, KIND)


# -- other files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_bytes(b""), "is not a table: it is empty"),
        (lambda path: path.mkdir(), "is not a table: it is a folder"),
        (lambda path: path.write_text("a,b\n1,2\n" * 9), "it was written by another program"),
        (lambda path: torch.save({"a": torch.zeros(2)}, path), "looks like a zip archive"),
        (lambda path: np.savez(path.open("wb"), a=np.zeros(2)), "looks like a zip archive"),
        (lambda path: path.write_bytes(b"\x1f\x8b\x08" + b"x" * 50), r"of R are such"),
        (lambda path: path.write_bytes(b"PAR1" + b"x" * 50), "looks like a parquet file"),
        (lambda path: save_file({"a": torch.zeros(2)}, path), "safetensors file of another"),
        (
            lambda path: write_tensors(path, Kind("dgmm table, format 9", "", ""), {}, []),
            r"it has 'dgmm table, format 9', written by dgmm \d.*, and this version reads "
            r"'dgmm table, format 3'\. Make it again, or read the file with the version that",
        ),
    ],
)
def test_other_files_are_named(make: Callable[[Path], Any], said: str, tmp_path: Path) -> None:
    make(tmp_path / "other")
    with pytest.raises(ValueError, match=said):
        read_tensors(tmp_path / "other", KIND)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file .*nothing'"):
        read_tensors(tmp_path / "nothing", KIND)


# -- writing that fails --------------------------------------------------------------------------


def test_a_full_disk_leaves_the_old_file(path: Path) -> None:
    """A limit on the size of files stops the writing after 100 bytes, as a full disk does."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OSError, match="some.table' could not be written .File too large.") as e:
            write_tensors(path, KIND, {"other": torch.ones(1000)}, [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert e.value.errno == errno.EFBIG
    assert same(read_tensors(path, KIND))
    assert names(path.parent) == ["some.table"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left")])
def test_an_interrupted_writing_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(number: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises((KeyboardInterrupt, OSError)):
        write_tensors(path, KIND, {}, [])
    assert same(read_tensors(path, KIND))
    assert names(path.parent) == ["some.table"]


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="could not be written .it is a folder."):
        write_tensors(tmp_path, KIND, {}, [])
    with pytest.raises(FileNotFoundError, match="no/table' could not be written .No such file"):
        write_tensors(tmp_path / "no" / "table", KIND, {}, [])
    assert names(tmp_path) == []
