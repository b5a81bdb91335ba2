"""Checkpoints: what was written is read, and a file of another fit is refused by name."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

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
    with pytest.raises(ValueError, match="is not a checkpoint written by this version"):
        Checkpoint(path, IDENTITY).next()


def test_the_file_holds_tensors_and_json_and_is_never_half_written(tmp_path: Path) -> None:
    path = tmp_path / "fit.ckpt"
    first = Checkpoint(path, IDENTITY)
    first.write(first.next()[0], saved(1.0))
    assert [one.name for one in tmp_path.iterdir()] == ["fit.ckpt"]
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["dgmm"])["identity"] == IDENTITY


def test_branches_have_files_of_their_own(tmp_path: Path) -> None:
    first = Checkpoint(tmp_path / "fit.ckpt", IDENTITY, every=7)
    branch = first.branch("start2")
    branch.write(branch.next()[0], saved(2.0))
    assert (branch.every, branch.path.name) == (7, "fit.ckpt.start2")
    assert first.next() == (0, None)
