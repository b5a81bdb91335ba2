"""The effects that are left after an elimination, from pairs of cells, against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest

from dgmm.likelihood import corner
from dgmm.likelihood.cells import Plan, plan
from dgmm.likelihood.corner import Corner, Pairs, check_memory

rng = np.random.default_rng(8)

TWO = np.unique(rng.integers(0, [9, 5], (25, 2)), axis=0)
THREE = np.unique(rng.integers(0, [9, 4, 3], (40, 3)), axis=0)
CASES = {
    "two factors": (TWO, (9, 5), (1, 1)),
    "slopes": (TWO, (9, 5), (2, 2)),
    "three factors": (THREE, (9, 4, 3), (1, 1, 2)),
}


@pytest.fixture(params=[(name, faster) for name in CASES for faster in (0, 1e9)], ids=str)
def case(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> tuple[Pairs, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs, the blocks F of their cells, W as one matrix (r, first effects), and W by cells."""
    name, faster = request.param
    monkeypatch.setattr(corner, "FASTER", faster)
    found: Plan = plan(*CASES[name])
    assert found.pairs.dense == (faster > 0)
    width, c = found.widths[0], len(found.level)
    b = len(found.positions) - width
    root = rng.normal(size=(b, b, c))
    F = np.einsum("ikc,jkc->ijc", root, root) + 3 * np.eye(b)[:, :, None]
    W = 0.2 * rng.normal(size=(b, width, c))
    wide = np.zeros((found.pairs.order, found.eliminated))
    for own, block in zip(found.positions.T, W.transpose(2, 0, 1), strict=True):
        np.add.at(wide, np.ix_(own[width:] - found.eliminated, own[:width]), block)
    return found.pairs, F, wide, W


def dense(pairs: Pairs, F: np.ndarray, wide: np.ndarray) -> np.ndarray:
    """S with D = I."""
    S = np.eye(pairs.order) - wide @ wide.T
    for own, block in zip(pairs.position.T, F.transpose(2, 0, 1), strict=True):
        S[np.ix_(own, own)] += block
    return S


def test_the_matrix_that_is_factorised_is_the_dense_one(
    case: tuple[Pairs, np.ndarray, np.ndarray, np.ndarray],
) -> None:
    pairs, F, wide, W = case
    S, B = dense(pairs, F, wide), rng.normal(size=(pairs.order, 3))
    found = pairs.corner(F, W, W)
    L = np.tril(found.matrix)
    np.testing.assert_allclose(L @ L.T, S, atol=1e-12)
    np.testing.assert_allclose(found.log_det, np.linalg.slogdet(S)[1], rtol=1e-12)
    np.testing.assert_allclose(found.solve(B), np.linalg.solve(S, B), atol=1e-12)


def test_the_inverse_takes_the_place_of_the_factor_and_solves_as_well(
    case: tuple[Pairs, np.ndarray, np.ndarray, np.ndarray],
) -> None:
    pairs, F, wide, W = case
    S, B = dense(pairs, F, wide), rng.normal(size=(pairs.order, 3))
    found = pairs.corner(F, W, W)
    place = found.matrix
    assert found.inverse() is place
    assert found.inverse() is place
    np.testing.assert_allclose(np.tril(place), np.tril(np.linalg.inv(S)), atol=1e-12)
    place[np.triu_indices(len(place), 1)] = np.nan  # the lower triangle alone counts
    np.testing.assert_allclose(found.solve(B), np.linalg.solve(S, B), atol=1e-12)


@pytest.mark.parametrize("at_once", [1, 7, 4_000_000])
def test_products_on_the_cells_are_those_of_the_dense_inverse(
    case: tuple[Pairs, np.ndarray, np.ndarray, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    at_once: int,
) -> None:
    monkeypatch.setattr(corner, "PAIRS", at_once)
    pairs, F, wide, W = case
    inverse, own = np.linalg.inv(dense(pairs, F, wide)), pairs.position
    blocks = pairs.blocks(pairs.corner(F, W, W).inverse())
    np.testing.assert_allclose(blocks, inverse[own[:, None], own[None]], atol=1e-12)
    product = pairs.times(np.tril(inverse), blocks, W)
    seen = np.flatnonzero(np.abs(wide).sum(0))  # levels of the first factor that have a cell
    wanted = (inverse @ wide[:, seen]).reshape(pairs.order, -1, W.shape[1])
    level = np.searchsorted(np.unique(pairs.start), pairs.start)
    for places, at, block in zip(own.T, level, product.transpose(2, 0, 1), strict=True):
        np.testing.assert_allclose(block, wanted[places, at], atol=1e-12)


def test_a_matrix_without_a_factor_is_an_error() -> None:
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        Corner(np.array([[1.0, 2.0], [2.0, 1.0]]))


def test_a_matrix_beyond_the_memory_is_refused_with_its_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(corner, "available_memory", lambda: 2**30)
    check_memory(11_000)
    words = "have 12000 random effects together; .* matrix of 1.1 GiB, and 1.0 GiB of memory"
    with pytest.raises(ValueError, match=words):
        check_memory(12_000)
    monkeypatch.setattr(corner, "available_memory", lambda: None)
    check_memory(10_000_000)
