"""Weighted draws: what the oracle's tests do not see."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from dgmm.studies.sampling import mixture_quantile


def test_quantiles_of_a_normal_mixture() -> None:
    mean = torch.tensor([[0.0, -3.0], [0.0, 4.0]], dtype=torch.float64)
    weight = torch.tensor([[0.3, 0.25], [0.7, 0.75]], dtype=torch.float64)
    q = mixture_quantile(0.9, mean, weight, 0.5)
    assert float(q[0]) == pytest.approx(0.5 * stats.norm.ppf(0.9), abs=1e-6)
    # the upper component carries all but 1/4
    assert float(q[1]) == pytest.approx(4 + 0.5 * stats.norm.ppf(0.65 / 0.75), abs=1e-6)
