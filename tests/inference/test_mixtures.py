"""Mixtures of chi-squared distributions."""

from __future__ import annotations

import pytest
from scipy import stats

from dgmm.inference.mixtures import Mixture


def test_critical_values_of_the_literature() -> None:
    # Stram and Lee (1994), Biometrics 50, table 1; Self and Liang (1987), case 5
    assert Mixture((0, 1)).p_value(2.7055) == pytest.approx(0.05, abs=1e-5)
    assert Mixture((1, 2)).p_value(5.1384) == pytest.approx(0.05, abs=1e-5)
    assert Mixture((2, 3)).p_value(7.0453) == pytest.approx(0.05, abs=1e-5)


def test_one_component_is_chi_squared() -> None:
    assert Mixture((3,)).p_value(4.2) == pytest.approx(stats.chi2.sf(4.2, 3), rel=1e-14)
    assert str(Mixture((3,))) == "chi2(3)"
    assert str(Mixture((1, 2))) == "0.5 chi2(1) + 0.5 chi2(2)"


def test_nothing_gained_is_no_evidence() -> None:
    assert Mixture((0, 1)).p_value(0.0) == 1.0
    assert Mixture((0, 1)).p_value(1e-12) == pytest.approx(0.5, abs=1e-5)
