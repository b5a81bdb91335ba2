"""The triangle by blocks of rows against one QR of all rows."""

import numpy as np
import pytest

from dgmm.numerics.triangle import ROWS, triangle


@pytest.mark.parametrize("size", [3, ROWS, ROWS + 1, 3 * ROWS + 17])
def test_triangle_is_that_of_one_qr(size: int) -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(size, 3)) * [1.0, 1e3, 1e-3]
    R, whole = triangle(X), np.linalg.qr(X, mode="r")
    assert np.allclose(np.abs(R), np.abs(whole), rtol=1e-12, atol=0)
    assert np.array_equal(R, np.triu(R))


def test_angles_survive_that_a_cross_product_would_lose() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=2 * ROWS)
    R = triangle(np.column_stack([x, x + 1e-9 * rng.normal(size=len(x))]))
    assert abs(R[1, 1]) / abs(R[0, 0]) == pytest.approx(1e-9, rel=0.05)
