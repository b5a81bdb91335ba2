"""Block elimination over cells against dense matrices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toys import build, crossed_frame

from dgmm.likelihood.cells import Plan, lay_out, plan, sum_by

rng = np.random.default_rng(5)

NESTED = np.array([[0, 0, 0], [1, 0, 0], [2, 1, 0], [3, 1, 0], [4, 2, 1], [6, 2, 1]])
CROSSED = np.unique(rng.integers(0, [7, 4, 3], (30, 3)), axis=0)
CASES = {
    "one factor": (NESTED[:, :1], (7,), (2,)),
    "nested": (NESTED, (7, 3, 2), (1, 2, 1)),
    "crossed": (CROSSED, (7, 4, 3), (2, 1, 2)),
    "nested in a crossing": (
        np.array([[0, 0, 0], [1, 0, 1], [2, 1, 0], [3, 1, 1]]),
        (5, 2, 2),
        (1, 1, 2),
    ),
}


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> tuple[Plan, np.ndarray, np.ndarray]:
    """A plan, the matrices of its cells and the same as one dense matrix."""
    found = plan(*CASES[request.param])
    K, c = found.positions.shape
    root = rng.normal(size=(c, K, 3))
    M = root @ root.transpose(0, 2, 1)
    A = np.eye(found.order)
    for place, block in zip(found.positions.T, M, strict=True):
        A[np.ix_(place, place)] += block
    return found, M.transpose(1, 2, 0), A


def test_the_determinant_and_solutions_are_those_of_the_dense_matrix(
    case: tuple[Plan, np.ndarray, np.ndarray],
) -> None:
    found, M, A = case
    factor, B = found.factorise(M), rng.normal(size=(len(A), 3))
    np.testing.assert_allclose(factor.log_det, np.linalg.slogdet(A)[1], rtol=1e-12)
    np.testing.assert_allclose(factor.solve(B), np.linalg.solve(A, B), atol=1e-12)
    root = factor.root(np.eye(len(A)))
    np.testing.assert_allclose(root @ root.T, np.linalg.inv(A), atol=1e-12)
    assert factor.cells.size  # now the inverse is in the place of the factor
    root = factor.root(np.eye(len(A)))
    np.testing.assert_allclose(root @ root.T, np.linalg.inv(A), atol=1e-12)


def test_the_inverse_on_the_cells_is_that_of_the_dense_matrix(
    case: tuple[Plan, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, M, A = case
    place = found.positions
    wanted = np.linalg.inv(A)[place[:, None], place[None]]
    np.testing.assert_allclose(found.factorise(M).cells, wanted, atol=1e-12)
    monkeypatch.setattr("dgmm.likelihood.corner.PAIRS", 1)  # one cell at a time
    again = replace(found)
    np.testing.assert_allclose(again.factorise(M).cells, wanted, atol=1e-12)


def test_nested_factors_never_meet_a_dense_matrix() -> None:
    found = plan(*CASES["nested"])
    assert found.rest is not None
    assert found.rest.rest is not None
    assert plan(*CASES["crossed"]).rest is None


def test_a_matrix_that_is_not_positive_definite_is_an_error() -> None:
    found = plan(NESTED[:, :1], (7,), (1,))
    with pytest.raises(np.linalg.LinAlgError):
        found.factorise(np.full((1, 1, 6), -2.0))


def test_scatter_and_sums_add_up() -> None:
    found = plan(*CASES["crossed"])
    values = rng.normal(size=found.positions.shape)
    wanted = np.zeros(found.order)
    np.add.at(wanted, found.positions, values)
    np.testing.assert_allclose(found.scatter(values), wanted, atol=1e-14)
    np.testing.assert_array_equal(sum_by(np.array([2, 0, 2]), np.arange(3.0), 3), [1, 0, 2])


def test_crossed_levels_that_memory_does_not_hold_are_refused_in_words() -> None:
    level = np.array([[0, 0], [0, 1], [1, 0]])
    words = "9000000 random effects together; .* matrix of 603497.0 GiB, and .* GiB of memory are"
    with pytest.raises(ValueError, match=words):
        plan(level, (10_000_000, 9_000_000), (1, 1))


def test_new_levels_of_a_target_add_no_cells_of_their_own() -> None:
    _, panel = build("y ~ x + (1 | a / c)", crossed_frame())
    layout = lay_out(panel, panel)
    np.testing.assert_array_equal(layout.cell, layout.target)
    assert layout.factors == (1, 0)  # a:c has more levels
    assert layout.known.all()
    outer, inner = (level.clone() for level in panel.rows.level)
    inner[:50], outer[:20] = -1, -1
    target = replace(panel, rows=replace(panel.rows, level=(outer, inner)))
    new = lay_out(panel, target)
    assert len(new.plan.level) == len(layout.plan.level)
    assert new.plan.rest is not None  # still nested
    np.testing.assert_array_equal(new.known[:, 0], np.arange(150) >= 50)
    np.testing.assert_array_equal(new.known[:, 1], np.arange(150) >= 20)
    seen = new.plan.level[new.target[20:], 1]
    np.testing.assert_array_equal(seen, outer[20:])
