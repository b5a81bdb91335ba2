"""Standard deviations and partial correlations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dgmm import Fit
from dgmm.inference.coordinates import Coordinates, partials, sphere_rows
from dgmm.inference.reported import covariance
from dgmm.parameters import part


@pytest.mark.parametrize("q", [1, 2, 3, 5])
def test_round_trip(q: int) -> None:
    z = np.random.default_rng(q).uniform(-0.9, 0.9, q * (q - 1) // 2)
    U = sphere_rows(torch.from_numpy(z), q)
    R = (U @ U.T).numpy()
    np.testing.assert_allclose(np.diag(R), 1.0, rtol=1e-12)
    np.testing.assert_allclose(partials(R), z, atol=1e-8)


def test_the_first_column_holds_correlations() -> None:
    z = torch.tensor([0.3, -0.6, 0.4], dtype=torch.float64)
    U = sphere_rows(z, 3)
    np.testing.assert_allclose((U @ U.T)[1:, 0], [0.3, -0.6], rtol=1e-12)


def test_effects_in_any_order_give_the_same_covariance(sleepstudy: Fit) -> None:
    done = sleepstudy.estimate
    D = covariance(done.model.latents[0], part(done.theta, "latent1."))
    for first in ((), (0,), (1,), (1, 0)):
        coordinates = Coordinates.of(done.model.latents, 0, first)
        vector = torch.from_numpy(coordinates.of_theta(done.theta))
        root = coordinates.root(0, vector)
        np.testing.assert_allclose(root @ root.T, D, rtol=1e-8)
    assert coordinates.is_deviation().tolist() == [True, True, False]
    assert float(vector[0]) == pytest.approx(sleepstudy.var_corr()["sdcor"].iloc[1])


def test_no_correlation_where_there_is_no_variance() -> None:
    assert partials(np.array([[1.0, 0.0], [0.0, 0.0]])).tolist() == [0.0]
