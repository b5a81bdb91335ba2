"""Infinite coefficients are found, named, and told from large ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dgmm import mixed_model
from dgmm.inference.separation import find_separation


def outcomes(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"id": np.repeat(np.arange(40), 6), "x": rng.normal(size=240)})
    eta = 0.3 * data["x"] + rng.normal(size=40)[data["id"]]
    data["z"] = (rng.uniform(size=240) < 1 / (1 + np.exp(-eta))).astype(float)
    data["count"] = rng.poisson(np.exp(eta)).astype(float)
    data["g"] = (data["id"] % 2).astype(float)
    return data


def test_overlap_is_no_separation() -> None:
    data = outcomes()
    X = np.column_stack([np.ones(240), data["x"], data["g"]])
    assert find_separation(X, data["z"] == 0, data["z"] == 1) is None


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_quasi_separation_names_its_column(scale: float) -> None:
    data = outcomes()
    data.loc[data["g"] == 1, "z"] = 1.0
    X = np.column_stack([np.ones(240), data["x"], scale * data["g"]])
    found = find_separation(X, data["z"] == 0, data["z"] == 1)
    assert found is not None
    assert found.columns == (2,)
    assert not found.complete


def test_complete_separation() -> None:
    data = outcomes()
    X = np.column_stack([np.ones(240), data["x"]])
    found = find_separation(X, data["x"] < 0.1, data["x"] >= 0.1)
    assert found is not None
    assert found.complete


def test_counts_that_are_all_zero_in_a_group() -> None:
    data = outcomes()
    data.loc[data["g"] == 1, "count"] = 0.0
    X = np.column_stack([np.ones(240), data["x"], data["g"]])
    found = find_separation(X, data["count"] == 0, np.zeros(240, dtype=bool))
    assert found is not None
    assert found.columns == (2,)
    fit = mixed_model("count ~ x + g + (1 | id)", data, family="poisson", verbose=0)
    assert any("separation" in note and "`g`" in note for note in fit.messages)
    other = mixed_model("count ~ x + (1 | id)", data[data["g"] == 0], family="poisson", verbose=0)
    assert fit.fixef()["x"] == pytest.approx(other.fixef()["x"], abs=0.05)  # the rest is usable


def test_a_separated_fit_ends_with_the_name_of_the_variable() -> None:
    data = outcomes()
    data["same"] = 2 * data["z"] - 1
    with pytest.raises(ValueError, match="`same` separates the outcome `z` completely"):
        mixed_model("z ~ x + same + (1 | id)", data, family="bernoulli", verbose=0)


def test_a_strong_effect_is_left_alone() -> None:
    data = outcomes()
    rng = np.random.default_rng(3)
    data["z"] = (rng.uniform(size=240) < 1 / (1 + np.exp(-6 * data["x"]))).astype(float)
    fit = mixed_model("z ~ x + (1 | id)", data, family="bernoulli", verbose=0)
    assert not any("separation" in note for note in fit.messages)
