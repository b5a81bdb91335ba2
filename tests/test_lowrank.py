"""Leading eigenvectors from products, and I + A'A through them."""

from __future__ import annotations

import torch
from toys import generator

from dgmm.numerics.lowrank import leading


def matrix(rows: int = 200, size: int = 120, decay: float = 0.4) -> torch.Tensor:
    """A (N, P) with quickly falling singular values."""
    draws = torch.randn(rows, size, generator=generator(1), dtype=torch.float64)
    U, _, Vt = torch.linalg.svd(draws, full_matrices=False)
    return (U * (100 * decay ** torch.arange(size))) @ Vt


def low(A: torch.Tensor):
    return leading(lambda Y: A @ Y, lambda Y: A.T @ Y, A.shape[1], generator(2))


def test_solve_root_and_determinant_are_those_of_the_whole_matrix() -> None:
    A = matrix()
    whole, found = torch.eye(120, dtype=torch.float64) + A.T @ A, low(A)
    assert found.Q.shape[1] < 30
    x = torch.randn(120, generator=generator(3), dtype=torch.float64)
    assert torch.allclose(found.solve(x), torch.linalg.solve(whole, x), atol=0.01)
    assert torch.allclose(found.back(found.back(x)), found.solve(x), atol=1e-10)
    assert abs(float(found.log_det - torch.linalg.slogdet(whole)[1])) < 0.02


def test_share_is_the_diagonal_of_what_the_data_determine() -> None:
    A = matrix()
    information = A.T @ A
    share = torch.linalg.solve(information + torch.eye(120, dtype=torch.float64), information)
    assert torch.allclose(low(A).share, share.diagonal(), atol=0.01)


def test_a_small_matrix_is_taken_whole() -> None:
    A = torch.randn(30, 20, generator=generator(4), dtype=torch.float64)
    x = torch.randn(20, generator=generator(5), dtype=torch.float64)
    whole = torch.eye(20, dtype=torch.float64) + A.T @ A
    assert torch.allclose(low(A).solve(x), torch.linalg.solve(whole, x), atol=1e-10)


def test_rescaled_is_the_matrix_between_diagonals() -> None:
    A = matrix()
    factor = 0.5 + torch.rand(120, generator=generator(6), dtype=torch.float64)
    found, again = low(A).rescaled(factor), low(A * factor)
    x = torch.randn(120, generator=generator(7), dtype=torch.float64)
    assert torch.allclose(found.solve(x), again.solve(x), atol=0.01)


def test_rank_grows_until_the_rest_is_small() -> None:
    found = low(matrix(300, 200, 0.85))
    assert found.Q.shape[1] > 24
    assert float(found.value.min()) < 0.01
