"""Measurements grouped by subject: every row once, in its place, whatever is asked for."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from toys import build, crossed_frame, frame, random_theta, whole

from dgmm.panel import Block, Factor, Panel, effects_of_rows

TEXT = "y ~ x + t + (t | id)"


def uneven() -> pd.DataFrame:
    """Subjects with 1 to 6 rows; some outcomes missing, all of subject 4's."""
    data = frame(9, 6, seed=1, missing=0.25)
    data = data[data.groupby("id").cumcount() < 1 + data.id % 6].copy()
    data.loc[data.id == 4, "y"] = np.nan
    return data


@pytest.fixture
def panel() -> Panel:
    return build(TEXT, uneven())[1]


def real_rows(block: Block) -> np.ndarray:
    return block.index[block.mask].numpy()


def test_rows_are_those_of_the_frame(panel: Panel) -> None:
    data = uneven()
    np.testing.assert_array_equal(panel.ids, np.unique(data.id))
    assert panel.count.tolist() == data.groupby("id").size().tolist()
    np.testing.assert_array_equal(panel.rows.data.y.numpy(), data.y.to_numpy())
    assert torch.equal(panel.observed, ~torch.isnan(panel.rows.data.y))
    np.testing.assert_array_equal(panel.rows.time.numpy(), data.t.to_numpy())
    expected = data.groupby("id").cumcount().to_numpy()
    np.testing.assert_array_equal(panel.rows.occasion.numpy(), expected)


@pytest.mark.parametrize("cells", [1, 7, 20, 200_000])
def test_blocks_cover_every_row_and_subject_once(panel: Panel, cells: int) -> None:
    for some in (panel, panel.observed_rows()):
        blocks = list(some.blocks(cells))
        rows = np.concatenate([real_rows(block) for block in blocks])
        np.testing.assert_array_equal(np.sort(rows), np.arange(some.n_rows))
        subjects = torch.cat([block.subjects for block in blocks])
        np.testing.assert_array_equal(np.sort(subjects.numpy()), np.arange(some.n))
        for block in blocks:
            owner = some.subject[block.index][block.mask]
            expected = block.subjects[:, None].expand_as(block.mask)[block.mask]
            assert torch.equal(owner, expected)


@pytest.mark.parametrize("cells", [12, 30])
def test_blocks_hold_at_most_the_asked_number_of_cells(panel: Panel, cells: int) -> None:
    for block in panel.blocks(cells):
        assert block.mask.numel() <= cells or len(block.subjects) == 1


def test_block_pads_with_real_rows(panel: Panel) -> None:
    block = panel.block(torch.tensor([5, 0]))
    assert block.mask.sum(1).tolist() == [6, 1]
    assert block.rows.X.shape == (2, 6, 3)
    assert torch.isfinite(block.rows.X).all()
    assert torch.equal(block.rows.T[0], panel.rows.T[0][block.index])


def test_observed_rows_keep_all_subjects(panel: Panel) -> None:
    seen = panel.observed_rows()
    np.testing.assert_array_equal(seen.ids, panel.ids)
    assert seen.n_rows == int(panel.observed.sum())
    assert bool(seen.observed.all())
    assert torch.equal(seen.rows.X, panel.rows.X[panel.observed])
    assert torch.equal(seen.subject, panel.subject[panel.observed])
    assert seen.count[4] == 0  # nothing was seen of subject 4
    assert torch.equal(seen.rows.occasion, panel.rows.occasion[panel.observed])
    assert seen.observed_rows() is seen


def test_a_subject_without_rows_is_an_empty_line_of_a_block(panel: Panel) -> None:
    block = whole(panel.observed_rows())
    assert not bool(block.mask[4].any())
    alone = panel.observed_rows().block(torch.tensor([4]))
    assert alone.mask.shape == (1, 1)
    assert not bool(alone.mask.any())


def test_keep_everything_is_the_identity(panel: Panel) -> None:
    assert panel.keep(torch.ones(panel.n_rows, dtype=torch.bool)) is panel


def test_keep_nothing_leaves_blocks_without_real_rows(panel: Panel) -> None:
    none = panel.keep(torch.zeros(panel.n_rows, dtype=torch.bool))
    assert (none.n, none.n_rows) == (9, 0)
    blocks = list(none.blocks())
    assert sum(len(block.subjects) for block in blocks) == 9
    assert not any(bool(block.mask.any()) for block in blocks)


def test_keep_in_two_steps_is_keep_in_one(panel: Panel) -> None:
    first = panel.rows.time > 0.2
    second = panel.rows.X[:, 1] > -0.5
    once = panel.keep(first & second)
    twice = panel.keep(first).keep(second[first])
    assert torch.equal(once.rows.X, twice.rows.X)
    assert torch.equal(once.start, twice.start)
    assert torch.equal(once.count, twice.count)


def test_select_all_is_the_identity(panel: Panel) -> None:
    same = panel.select(np.arange(panel.n))
    assert torch.equal(same.rows.X, panel.rows.X)
    assert torch.equal(same.start, panel.start)
    assert torch.equal(same.subject, panel.subject)


def test_select_takes_subjects_in_the_order_given(panel: Panel) -> None:
    chosen = panel.select(np.array([5, 0, 5]))
    assert chosen.ids.tolist() == [panel.ids[5], panel.ids[0], panel.ids[5]]
    assert chosen.count.tolist() == [6, 1, 6]
    expected = torch.cat([panel.rows.X[panel.subject == i] for i in (5, 0, 5)])
    assert torch.equal(chosen.rows.X, expected)
    assert chosen.subject.tolist() == [0] * 6 + [1] + [2] * 6


def test_select_and_observed_rows_commute(panel: Panel) -> None:
    subjects = np.array([4, 7, 2])
    one = panel.select(subjects).observed_rows()
    other = panel.observed_rows().select(subjects)
    assert torch.equal(one.rows.X, other.rows.X)
    assert torch.equal(one.count, other.count)
    assert torch.equal(one.start, other.start)


def test_align_follows_the_ids_and_knows_the_unknown(panel: Panel) -> None:
    ids = np.array([panel.ids[3], 999, panel.ids[1]])
    aligned = panel.align(ids)
    np.testing.assert_array_equal(aligned.ids, ids)
    assert aligned.count.tolist() == [int(panel.count[3]), 0, int(panel.count[1])]
    expected = torch.cat([panel.rows.X[panel.subject == i] for i in (3, 1)])
    assert torch.equal(aligned.rows.X, expected)
    assert not bool(whole(aligned).mask[1].any())


def test_align_to_its_own_ids_is_the_identity(panel: Panel) -> None:
    same = panel.align(panel.ids)
    assert torch.equal(same.rows.X, panel.rows.X)
    assert torch.equal(same.subject, panel.subject)
    assert torch.equal(same.start, panel.start)


def test_align_to_strangers_gives_subjects_without_rows(panel: Panel) -> None:
    strangers = panel.align(np.array([901, 902]))
    assert (strangers.n, strangers.n_rows) == (2, 0)
    blocks = list(strangers.blocks())
    assert not any(bool(block.mask.any()) for block in blocks)


def test_with_outcome_replaces_the_outcome_alone(panel: Panel) -> None:
    y = torch.arange(panel.n_rows, dtype=torch.float64)
    y[3] = torch.nan
    other = panel.with_outcome(y)
    assert torch.equal(other.rows.data.y.nan_to_num(-1), y.nan_to_num(-1))
    assert other.observed.sum() == panel.n_rows - 1
    assert torch.equal(other.rows.data.weights, panel.rows.data.weights)
    assert other.rows.X is panel.rows.X


def test_columns_and_like_are_inverse() -> None:
    text = "y ~ dnn(x, w, hidden=(3,)) + t + (1 | id) + (dnn(0 + t, basis=poly(t, 2)) | id)"
    rows = build(text, frame())[1].rows
    back = rows.like(rows.columns())
    assert len(back.inputs) == 1
    assert len(back.T) == len(back.basis) == 2
    for a, b in zip(rows.columns(), back.columns(), strict=True):
        assert a is b
    assert back.data.trials is rows.data.trials
    assert back.basis[1] is rows.basis[1]


def test_the_levels_of_several_factors_follow_the_rows() -> None:
    data = crossed_frame()
    data.loc[5, "y"] = np.nan
    _, panel = build("y ~ x + (1 | a) + (t | b)", data)
    assert panel.crossing is not None
    assert panel.crossing.names == ("a", "b")
    for part in (panel, panel.observed_rows(), panel.select([3, 1]), panel.align(panel.ids[2:5])):
        assert part.crossing is panel.crossing
        labels = [panel.crossing.labels[f][level] for f, level in enumerate(part.rows.level)]
        found = pd.DataFrame({"a": labels[0], "b": labels[1], "x": part.rows.X[:, 1].numpy()})
        assert len(found.merge(data)) == len(found) == part.n_rows
    assert (panel.ids[panel.subject] == panel.crossing.labels[0][panel.rows.level[0]]).all()
    _, one = build("y ~ x + (1 | a) + (0 + t | a)", data)
    assert one.crossing is None
    assert one.rows.level == ()


def test_effects_of_levels_are_gathered_term_by_term() -> None:
    factors = [Factor("a", np.arange(2), [0, 2]), Factor("b", np.arange(3), [1])]
    effects = [torch.tensor([[1.0, 2, 3], [4, 5, 6]]), torch.tensor([[10.0], [20], [30]])]
    level = [torch.tensor([1, 0]), torch.tensor([2, 2])]
    wanted = torch.tensor([[4.0, 30, 5, 6], [1, 30, 2, 3]])
    assert torch.equal(effects_of_rows(factors, effects, level, [1, 1, 2]), wanted)


def test_joined_rows_have_networks_of_their_own_inputs() -> None:
    """An input that is constant within subjects may be another one in new rows."""
    seen = frame(6, 4, seed=4)
    seen["z0"] = seen["id"] * 0.3
    model, history = build("y ~ dnn(z0, hidden=(3,)) + (ou(t) | id)", seen)
    later = seen.assign(z0=seen["z0"] + 1, t=seen["t"] - 0.5)
    _, target = build("y ~ dnn(z0, hidden=(3,)) + (ou(t) | id)", later)
    assert history.rows.steady == (True,)
    both, place = history.joined(target, history.rows.data)
    ready = model.prepare(random_theta(model))
    new = torch.zeros(both.n_rows, dtype=torch.bool).index_fill(0, place, True)
    for part, at in ((target, place), (history, torch.nonzero(~new)[:, 0])):
        whole = torch.zeros(both.n_rows, dtype=torch.float64)
        for block in both.blocks():
            whole[block.index] = model.mu1(ready, block.rows)
        alone = torch.zeros(part.n_rows, dtype=torch.float64)
        for block in part.blocks():
            alone[block.index] = model.mu1(ready, block.rows)
        torch.testing.assert_close(whole[at], alone)
