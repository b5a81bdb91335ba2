"""Grouping factors: natural order, nesting, and recognising subjects in new data."""

from __future__ import annotations

import pandas as pd
import pytest

from dgmm.design.grouping import label_rank, learn_grouping, recall_grouping


def test_levels_keep_their_type_and_sort_naturally() -> None:
    for labels, levels in [
        ([10, 9, 10, 2], [2, 9, 10]),
        (["10", "9", "10", "2"], ["2", "9", "10"]),
        (["s10", "s9", "s10", "s2"], ["s10", "s2", "s9"]),
        ([1.5, 1.0, 1.5, 0.5], [0.5, 1.0, 1.5]),
    ]:
        grouping, _ = learn_grouping("id", ["id"], [pd.Series(labels)])
        assert grouping.levels.tolist() == levels
        assert grouping.levels[grouping.codes].tolist() == labels


@pytest.mark.parametrize("new", [[2, 9, 7], ["2", "9", "7"], [2.0, 9.0, 7.0]])
def test_a_subject_is_recognised_whatever_type_its_label_has(new: list[object]) -> None:
    _, memory = learn_grouping("id", ["id"], [pd.Series([10, 9, 2])])
    assert recall_grouping(memory, [pd.Series(new)], 3).codes.tolist() == [0, 1, -1]


def test_a_missing_label_is_an_unknown_subject() -> None:
    _, memory = learn_grouping("id", ["id"], [pd.Series(["a", "b"])])
    again = recall_grouping(memory, [pd.Series(["b", None])], 2)
    assert again.codes.tolist() == [1, -1]
    assert recall_grouping(memory, None, 2).codes.tolist() == [-1, -1]


def test_crossed_labels_are_matched_as_pairs() -> None:
    school, pupil = pd.Series(["b", "a", "a", "b"]), pd.Series([1, 1, 2, 1])
    grouping, memory = learn_grouping("school:pupil", ["school", "pupil"], [school, pupil])
    assert grouping.levels.tolist() == ["a:1", "a:2", "b:1"]
    assert grouping.codes.tolist() == [2, 0, 1, 2]
    again = recall_grouping(memory, [pd.Series(["b", "b"]), pd.Series(["1", "2"])], 2)
    assert again.codes.tolist() == [2, -1]
    assert again.labels.tolist() == ["b:1", "b:2"]


def test_one_group_is_none() -> None:
    with pytest.raises(ValueError, match="two or more"):
        learn_grouping("id", ["id"], [pd.Series([1, 1])])


def test_label_rank() -> None:
    assert label_rank(pd.Series(["10", "9", "10"]).to_numpy(dtype=object)).tolist() == [1, 0, 1]
