"""A user's own density gives what the built-in family gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from toys import frame

from dgmm import load, mixed_model
from dgmm.families import OwnFamily


class OwnPoisson(OwnFamily):
    name = "own_poisson"
    links = ("log",)

    def log_density(self, data: Any, eta: Any, extra: Any) -> Any:
        return data.weights * (data.y * eta - torch.exp(eta) - torch.lgamma(data.y + 1))


class OwnGamma(OwnFamily):
    name = "own_gamma"
    links = ("log",)
    extra = ("log_shape",)

    def log_density(self, data: Any, eta: Any, extra: Any) -> Any:
        shape = torch.exp(extra[0])
        kernel = shape * (extra[0] - eta) + (shape - 1) * torch.log(data.y) - torch.lgamma(shape)
        return data.weights * (kernel - shape * data.y * torch.exp(-eta))


def positive() -> pd.DataFrame:
    data = frame(40, 6, seed=4)
    rng = np.random.default_rng(0)
    mean = np.exp(0.3 + 0.4 * data["x"] + 0.3 * rng.normal(size=40)[data["id"]])
    return data.assign(y=rng.gamma(2.0, mean / 2.0))


@pytest.mark.parametrize(
    ("formula", "own", "word"),
    [
        ("count ~ x + t + (t | id)", OwnPoisson(), "poisson"),
        ("y ~ x + (1 | id)", OwnGamma(), "gamma"),
    ],
)
def test_the_fit_is_that_of_the_family_in_the_folder(
    formula: str, own: OwnFamily, word: str
) -> None:
    data = positive()
    ours = mixed_model(formula, data, family=own, verbose=0)
    known = mixed_model(formula, data, family=word, verbose=0)
    assert float(ours.loglik()) == pytest.approx(float(known.loglik()), abs=1e-5)
    moved = (ours.fixef() - known.fixef()) / known.std_errors()
    assert moved.abs().max() < 2e-3
    np.testing.assert_allclose(ours.std_errors(), known.std_errors(), rtol=1e-3)
    np.testing.assert_allclose(ours.fitted(), known.fitted(), rtol=1e-3)
    for name, value in ours.family_parameters()["estimate"].items():
        assert value == pytest.approx(known.family_parameters()["estimate"][name], rel=1e-3)


def test_what_was_not_written_is_asked_for() -> None:
    fit = mixed_model("count ~ x + (1 | id)", positive(), family=OwnPoisson(), verbose=0)
    with pytest.raises(ValueError, match="cannot draw outcomes: write simulate"):
        fit.simulate(1, seed=0)
    with pytest.raises(ValueError, match="does not say its variance: write variance"):
        fit.residuals("pearson")


def test_a_saved_fit_says_that_its_family_is_not_in_the_folder(tmp_path: Any) -> None:
    fit = mixed_model("count ~ x + (1 | id)", positive(), family=OwnPoisson(), verbose=0)
    fit.save(tmp_path / "fit")
    with pytest.raises(ValueError, match="own_poisson"):
        load(tmp_path / "fit")
