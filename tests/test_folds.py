"""All subjects, dealt into folds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import build, frame

from dgmm.estimate.folds import Folds
from dgmm.panel import Panel


def panel(n: int = 43) -> Panel:
    """Subjects 3 and 7 have no outcome."""
    data = frame(n, 4)
    data.loc[data["id"].isin([3, 7]), "y"] = np.nan
    return build("y ~ x + (1 | id)", data)[1]


@pytest.mark.parametrize(("share", "number"), [(0.2, 5), (0.25, 4), (0.1, 10), (0.5, 2), (0.8, 2)])
def test_every_subject_with_an_outcome_is_left_out_once(share: float, number: int) -> None:
    folds = Folds.deal(panel(), 1, share)
    assert folds is not None
    assert len(folds.left) == number
    seen = sorted(set(range(43)) - {3, 7})
    assert sorted(np.concatenate(folds.left)) == seen
    sizes = [len(part) for part in folds.left]
    assert max(sizes) - min(sizes) <= 1


def test_the_seed_deals() -> None:
    one, same, other = (Folds.deal(panel(), seed) for seed in (1, 1, 2))
    assert one is not None
    assert same is not None
    assert other is not None
    assert all(np.array_equal(*pair) for pair in zip(one.left, same.left, strict=True))
    assert not all(np.array_equal(*pair) for pair in zip(one.left, other.left, strict=True))


def test_few_subjects_tell_nothing() -> None:
    assert Folds.deal(panel(22), 1) is not None  # twenty with an outcome
    assert Folds.deal(panel(21), 1) is None


def test_scores_come_in_the_order_of_the_panel() -> None:
    folds = Folds.deal(panel(), 1)
    assert folds is not None

    for kept, left in zip(folds.kept, folds.left, strict=True):
        assert sorted([*kept, *left]) == list(range(43))
    parts = [torch.from_numpy(left.astype(float)) for left in folds.left]
    assert folds.joined(parts).tolist() == sorted(set(range(43)) - {3, 7})
