"""Ridge penalties by evidence."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import dgmm
from dgmm.parameters import Packing
from dgmm.penalised.evidence import _degrees, _grams, effective_df


def test_effective_df_of_independent_parameters():
    """With diagonal information f and penalty kappa each share is f / (f + kappa)."""
    information = torch.tensor([4.0, 1.0, 0.25], dtype=torch.float64)
    kappa = torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64)
    share = effective_df(torch.diag(information), kappa)
    expected = information / (information + kappa)
    np.testing.assert_allclose(share.numpy(), expected.numpy(), rtol=1e-6)


@pytest.mark.parametrize("subjects", [9, 60])
def test_degrees_of_freedom_are_those_of_the_whole_information(subjects: int) -> None:
    """Fewer and more subjects than parameters, beta without a penalty."""
    packing = Packing({"beta": (2,), "dnn1.A1": (4, 3), "dnn2.A1": (5, 1), "extra": (1,)})
    generator = torch.Generator().manual_seed(4)
    scores = torch.randn(subjects, packing.size, generator=generator, dtype=torch.float64)
    kappa = {"dnn1": 3.0, "dnn2": 0.7}
    networks = {"dnn1": ["dnn1.A1"], "dnn2": ["dnn2.A1"]}
    found = _degrees(_grams(scores, packing, ["beta"], networks), kappa)
    S, penalty = scores[:, :-1], torch.tensor([0.0] * 2 + [3.0] * 12 + [0.7] * 5)
    share = effective_df(S.T @ S, penalty.double())
    assert found["dnn1"] == pytest.approx(float(share[2:14].sum()), rel=1e-5)
    assert found["dnn2"] == pytest.approx(float(share[14:].sum()), rel=1e-5)


def _curve(amplitude: float) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    subject = np.repeat(np.arange(60), 5)
    z = rng.uniform(-2, 2, len(subject))
    y = amplitude * np.sin(2 * z) + rng.normal(size=60)[subject] + rng.normal(0, 0.5, len(z))
    return pd.DataFrame({"id": subject, "z": z, "y": y})


@pytest.fixture(scope="module")
def curved():
    control = {"epochs": 60, "holdout": 0.0}
    return {
        amplitude: dgmm.mixed_model(
            "y ~ dnn(z, hidden=(8,)) + (1 | id)", _curve(amplitude), verbose=0, control=control
        )
        for amplitude in (0.0, 2.0)
    }


def test_a_network_without_work_gets_the_larger_penalty(curved):
    silent, busy = (curved[a].estimate.model.ridge_of("dnn1") for a in (0.0, 2.0))
    assert silent > 1.5 * busy
    assert (
        curved[0.0].information.effective["dnn1"] < 4.5 < curved[2.0].information.effective["dnn1"]
    )


def test_a_ridge_of_the_user_is_kept():
    fit = dgmm.mixed_model(
        "y ~ dnn(z, hidden=(8,), ridge=7) + (1 | id)",
        _curve(2.0),
        verbose=0,
        control={"epochs": 10, "holdout": 0.0},
    )
    assert fit.estimate.model.ridge_of("dnn1") == 7.0
