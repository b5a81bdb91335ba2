"""Adjusted p values: studentized ranges, a common control by quadrature, independent tests."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dgmm.inference.multiplicity import Family, adjusted, critical

T = np.array([0.5, 1.0, 1.5, 2.0, 2.5, 3.0])


def of_pairs(df: float, K: int = 4) -> Family:
    rows = [np.eye(K)[i] - np.eye(K)[j] for i in range(K) for j in range(i + 1, K)]
    C = np.array(rows)
    return Family(T, np.full(len(C), df), C @ C.T / 2, K)


@pytest.mark.parametrize("df", [12.5, np.inf])
def test_multivariate_t_of_all_pairs_is_tukeys(df: float) -> None:
    """The correlations of pairs are singular."""
    family = of_pairs(df)
    np.testing.assert_allclose(adjusted(family, "mvt"), adjusted(family, "tukey"), atol=5e-5)
    one, two = (critical(family, how, 0.95) for how in ("mvt", "tukey"))
    np.testing.assert_allclose(one, two, atol=5e-4)
    # R: qtukey(0.95, 4, 12.5) / sqrt(2) = 2.951260, qtukey(0.95, 4, Inf) / sqrt(2) = 2.569032
    assert two[0] == pytest.approx(2.951260 if df < 20 else 2.569032, abs=2e-6)


def test_a_common_control_by_quadrature() -> None:
    """Dunnett: given the control the others are independent."""
    C = np.column_stack([-np.ones(3), np.eye(3)])
    family = Family(np.array([1.0, 2.0, 3.0]), np.full(3, np.inf), C @ C.T / 2, 4)
    x, w = np.polynomial.hermite_e.hermegauss(160)
    for t, found in zip(family.t, adjusted(family, "dunnett"), strict=True):
        inside = stats.norm.cdf(np.sqrt(2) * t + x) - stats.norm.cdf(-np.sqrt(2) * t + x)
        assert found == pytest.approx(1 - (w / w.sum()) @ inside**3, abs=5e-5)


def test_independent_comparisons() -> None:
    family = Family(T[:3], np.full(3, np.inf), np.eye(3), 4)
    plain = 2 * stats.norm.sf(T[:3])
    np.testing.assert_allclose(adjusted(family, "none"), plain, rtol=1e-12)
    np.testing.assert_allclose(adjusted(family, "mvt"), 1 - (1 - plain) ** 3, atol=5e-5)
    np.testing.assert_allclose(adjusted(family, "bonferroni"), np.minimum(1, 3 * plain))
    np.testing.assert_allclose(
        adjusted(family, "holm"),
        [max(3 * plain[2], 2 * plain[1], plain[0]), max(3 * plain[2], 2 * plain[1]), 3 * plain[2]],
    )
    half = critical(family, "mvt", 0.95)[0]
    assert half == pytest.approx(stats.norm.ppf(0.5 + 0.5 * 0.95 ** (1 / 3)), abs=3e-4)
    assert critical(family, "holm", 0.95)[0] == pytest.approx(stats.norm.ppf(1 - 0.05 / 6))


def test_one_comparison_needs_no_adjustment() -> None:
    family = Family(T[3:4], np.array([7.0]), np.eye(1), 2)
    for how in ("tukey", "mvt", "holm", "none"):
        assert adjusted(family, how)[0] == pytest.approx(2 * stats.t.sf(2.0, 7.0), rel=1e-10)
        assert critical(family, how, 0.9)[0] == pytest.approx(stats.t.ppf(0.95, 7.0), rel=1e-10)
