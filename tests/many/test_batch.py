"""The rows of all models, read once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dgmm.many import batch as room
from dgmm.many.batch import Batch, read_batch
from dgmm.many.models import models_of
from dgmm.plan import Call


def long() -> pd.DataFrame:
    """Models a, b, c with 6, 4 and 2 rows, in no order."""
    frame = pd.DataFrame(
        {
            "gene": list("aaaaaabbbbcc"),
            "id": [1, 1, 1, 2, 2, 2, 1, 1, 3, 3, 2, 3],
            "x": np.arange(12.0),
            "y": np.arange(12.0) ** 2,
        }
    )
    return frame.sample(frac=1.0, random_state=1)


def read(frame: pd.DataFrame) -> Batch:
    found = read_batch(models_of(Call(formula="y ~ x + (1 | id)"), frame, "gene", None))
    assert isinstance(found, Batch)
    return found


def test_every_model_has_its_rows_subject_by_subject(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "ROWS", 12)
    found = read(long())
    assert [chunk.tolist() for chunk in found.chunks()] == [[2, 1], [0]]
    rows = found.rows(np.array([2, 1]))
    assert rows.planned.tolist() == [[True, True, False, False], [True] * 4]
    np.testing.assert_array_equal(rows.y[0, :2], [100.0, 121.0])
    np.testing.assert_array_equal(rows.y[1], np.square([6.0, 7.0, 8.0, 9.0]))
    np.testing.assert_array_equal(rows.X[1, :, 1], [6.0, 7.0, 8.0, 9.0])
    assert rows.subject.tolist() == [[0, 1, 1, 1], [0, 0, 1, 1]]


def test_rows_without_a_model_belong_to_none() -> None:
    frame = long()
    frame.loc[frame["gene"] == "b", "gene"] = None
    assert read(frame).count.tolist() == [6, 2]


def test_outcomes_stand_beside_each_other_less_the_offset() -> None:
    frame = long().assign(z=lambda d: d["y"] + 1, text="a", o=0.5)
    call = Call(formula="~ x + (1 | id)", offset="o")
    found = read_batch(models_of(call, frame, None, ["z", "y", "text"]))
    assert isinstance(found, Batch)
    y = found.rows(np.arange(3)).y
    np.testing.assert_array_equal(y[0], y[1] + 1)
    assert sorted(y[1] + 0.5) == sorted(frame["y"])
    assert np.isnan(y[2]).all()  # a fit of its own says what is wrong with text
