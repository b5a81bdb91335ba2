"""Rows of several outcomes as steps, by hand."""

from __future__ import annotations

import torch

from dgmm.latent.steps import steps_of
from dgmm.panel import LatentRows, Past

NONE = torch.zeros(0, dtype=torch.float64)


def rows(
    name: str, time: list[list[float]], seen: list[list[bool]], there: list[bool] | None = None
) -> LatentRows:
    """Rows whose residual is 100 times their time, and whose input is its square."""
    T = torch.tensor(time, dtype=torch.float64)
    past = Past(100 * T, torch.full_like(T, 2.0 if name == "y" else 3.0), torch.tensor(seen))
    here = None if there is None else torch.tensor(there)
    return LatentRows(T[..., None], T[..., None].square(), T, name, past, here)


Y = rows("y", [[1.0, 4.0, 6.0], [2.0, 3.0, 2.0]], [[True, False, True], [True, True, False]])
Z = rows("z", [[4.0, 5.0], [9.0, 9.0]], [[True, True], [False, False]], [True, False])
"""The third row of the second subject is padding; of z it has none."""


def test_steps_are_the_times_of_all_outcomes() -> None:
    inputs = (torch.zeros(1).double(), torch.ones(1).double())
    found = steps_of([Y, Z], False, 2.0, inputs)
    assert found.number == 4
    assert found.real.tolist() == [[True] * 4, [True, True, False, False]]
    assert found.places[0].tolist() == [[0, 1, 3], [0, 1, 0]]
    assert found.places[1].tolist() == [[1, 2], [0, 0]]
    assert found.x[0].tolist() == [[0.0, 1.0], [0.5, 16.0], [-0.5, 25.0], [-0.5, 36.0]]
    assert found.x[1, :2].tolist() == [[0.0, 4.0], [-0.5, 9.0]]
    assert found.residual[0].tolist() == [[100.0, 0.0], [0.0, 400.0], [0.0, 500.0], [600.0, 0.0]]
    assert found.seen[0].tolist() == [[True, False], [False, True], [False, True], [True, False]]
    assert found.seen[1].tolist() == [[True, False], [True, False], [False] * 2, [False] * 2]
    assert found.spread[0].tolist() == [[2.0, 3.0]] * 4


def test_steps_of_a_grid_have_rows_or_not() -> None:
    inputs = (torch.zeros(1).double(), torch.ones(1).double())
    found = steps_of([Y, Z], True, 1.0, inputs)
    assert found.number == 6
    assert found.places[0].tolist() == [[0, 3, 5], [0, 1, 0]]
    assert found.places[1].tolist() == [[3, 4], [0, 0]]
    assert found.x[0, :, 0].tolist() == [1.0, 1.0, 1.0, 16.0, 25.0, 36.0]  # between rows they stay
    assert found.seen[0].any(-1).tolist() == [True, False, False, True, True, True]
    assert steps_of([Y, Z], True, 1.0, (NONE, NONE)).x.shape == (2, 6, 0)


def test_of_rows_at_one_time_the_first_counts() -> None:
    twice = rows("y", [[1.0, 1.0, 2.0]], [[True, True, True]])
    assert twice.past is not None
    told = twice._replace(past=twice.past._replace(residual=torch.tensor([[1.0, 7.0, 3.0]])))
    found = steps_of([told], False, 1.0, (NONE, NONE))
    assert found.places[0].tolist() == [[0, 0, 1]]
    assert found.residual[0, :, 0].tolist() == [1.0, 3.0]
