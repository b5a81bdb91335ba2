"""Checkpoints: what was written is read, and a file of another fit is refused by name."""

from __future__ import annotations

import errno
import json
import math
import os
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dgmm.runtime.checkpoint import Checkpoint, Saved

IDENTITY = {"formula": "y ~ x", "column `x`": "abc", "control epochs": "30"}


def saved(value: float) -> Saved:
    tensors = {"weights/theta/beta": torch.tensor([value, value / 3], dtype=torch.float64)}
    return Saved(tensors, {"epoch": 3, "gradient": math.nan, "elbo": [value / 7, -math.inf]})


def test_trainings_come_back_in_their_order(tmp_path: Path) -> None:
    first = Checkpoint(tmp_path / "fit.ckpt", IDENTITY)
    for value in (1.0, 2.0):
        number, known = first.next()
        assert known is None
        first.write(number, saved(-value))
        first.write(number, saved(value))  # a later one takes its place
    again = Checkpoint(tmp_path / "fit.ckpt", dict(IDENTITY))
    for value in (1.0, 2.0):
        _, known = again.next()
        assert known is not None
        assert torch.equal(known.tensors["weights/theta/beta"], saved(value).tensors.popitem()[1])
        assert known.numbers["elbo"] == [value / 7, -math.inf]  # floats to the last bit
        assert math.isnan(known.numbers["gradient"])
    assert again.next() == (2, None)


def test_going_on_from_an_earlier_training_forgets_the_later_ones(tmp_path: Path) -> None:
    first = Checkpoint(tmp_path / "fit.ckpt", IDENTITY)
    for value in (1.0, 2.0):
        first.write(first.next()[0], saved(value))
    again = Checkpoint(tmp_path / "fit.ckpt", IDENTITY)
    again.write(again.next()[0], saved(5.0))
    assert Checkpoint(tmp_path / "fit.ckpt", IDENTITY).next()[1] is not None
    third = Checkpoint(tmp_path / "fit.ckpt", IDENTITY)
    third.next()
    assert third.next()[1] is None


def test_another_fit_is_refused_by_the_names_of_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "fit.ckpt"
    first = Checkpoint(path, IDENTITY)
    first.write(first.next()[0], saved(1.0))
    other = {**IDENTITY, "control epochs": "60", "column `z`": "def"}
    with pytest.raises(ValueError, match="different: control epochs, column `z`. Call with"):
        Checkpoint(path, other).next()
    fewer = {"formula": "y ~ x", "control epochs": "30"}
    with pytest.raises(ValueError, match="different: column `x`. Call with"):
        Checkpoint(path, fewer).next()


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "fit.ckpt"
    path.write_text("not tensors", encoding="utf-8")
    with pytest.raises(ValueError, match="fit.ckpt' is not a checkpoint: it was written by anoth"):
        Checkpoint(path, IDENTITY).next()
    old = {"format": "dgmm checkpoint, format 1", "identity": {"version of dgmm": "0.0.9"}}
    save_file({"a": torch.zeros(1)}, path, metadata={"dgmm": json.dumps(old)})
    with pytest.raises(ValueError, match="'dgmm checkpoint, format 1', written by dgmm 0.0.9, and"):
        Checkpoint(path, IDENTITY).next()


def test_a_damaged_file_is_refused_before_the_fit_begins(tmp_path: Path) -> None:
    path = tmp_path / "fit.ckpt"
    first = Checkpoint(path, IDENTITY)
    first.write(first.next()[0], saved(1.0))
    whole = path.read_bytes()
    for place in range(0, len(whole), 29):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ValueError, match="fit.ckpt' is (damaged|not a checkpoint)"):
            Checkpoint(path, IDENTITY).check()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is damaged: .* Delete it to begin the fit anew, or use"):
        Checkpoint(path, IDENTITY).check()


def test_a_path_that_cannot_be_written_is_refused_before_the_fit_begins(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be written: its folder does not exist"):
        Checkpoint(tmp_path / "no" / "fit.ckpt", IDENTITY).check()
    with pytest.raises(ValueError, match="is not a checkpoint: it is a folder"):
        Checkpoint(tmp_path, IDENTITY).check()
    Checkpoint(tmp_path / "fit.ckpt", IDENTITY).check()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_write_left_is_removed(tmp_path: Path) -> None:
    part = tmp_path / "fit.ckpt.part"
    part.write_bytes(b"half a checkpo")
    assert Checkpoint(tmp_path / "fit.ckpt", IDENTITY).next() == (0, None)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_once_and_the_last_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "fit.ckpt"
    first = Checkpoint(path, IDENTITY)
    number, _ = first.next()
    first.write(number, saved(1.0))

    def full(place: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.warns(UserWarning, match="goes on without .*fit.ckpt' could not .*No space"):
            first.write(number, saved(2.0))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            first.write(number, saved(3.0))
    assert [one.name for one in tmp_path.iterdir()] == ["fit.ckpt"]
    known = Checkpoint(path, IDENTITY).next()[1]
    assert known is not None
    assert torch.equal(known.tensors["weights/theta/beta"], saved(1.0).tensors.popitem()[1])
    first.write(number, saved(4.0))  # there is room again
    known = Checkpoint(path, IDENTITY).next()[1]
    assert known is not None
    assert known.numbers["elbo"][0] == 4 / 7


def test_branches_have_files_of_their_own(tmp_path: Path) -> None:
    first = Checkpoint(tmp_path / "fit.ckpt", IDENTITY, every=7)
    branch = first.branch("start2")
    branch.write(branch.next()[0], saved(2.0))
    assert (branch.every, branch.path.name) == (7, "fit.ckpt.start2")
    assert first.next() == (0, None)
