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


def test_rows_that_say_nothing_are_left_out() -> None:
    X = np.column_stack([np.ones(6), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]])
    lowest = np.array([True, False, False, True, True, True])
    silent = np.array([True, False, False, False, False, False])
    found = find_separation(X, lowest, silent)
    assert found is not None
    assert found.columns == (1,)
    assert find_separation(X, np.ones(6, dtype=bool), np.ones(6, dtype=bool)) is None


def small(y: list[float], x: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"id": [0, 0, 1, 1, 2, 2, 3, 3, 4, 4], "y": y, "x": x})


HALF = [0.0, 1.0] * 5


@pytest.mark.parametrize(
    ("family", "y"),
    [
        ("bernoulli", [0, 1, 1, 1, 0, 1, 1, 1, 0, 1]),
        ("poisson", [2, 0, 1, 0, 3, 0, 1, 0, 2, 0]),
        ("hurdle_poisson", [2, 1, 1, 1, 3, 1, 0, 1, 2, 0]),
        ("cumulative", [1, 3, 2, 3, 3, 3, 1, 3, 2, 3]),
        ("ordered_beta", [0.3, 1.0, 0.0, 1.0, 0.6, 1.0, 1.0, 1.0, 0.4, 1.0]),
        ("censored_gaussian", [0.3, 0.0, 0.5, 0.0, 0.6, 0.0, 1.0, 0.0, 0.4, 0.0]),
    ],
)
def test_ten_rows_say_so_in_words(family: str, y: list[float]) -> None:
    fit = mixed_model("y ~ x + (1 | id)", small(y, HALF), family=family, se=None, verbose=0)
    assert any("separation: in part of the rows `x` decides" in note for note in fit.messages)


def test_ordered_categories_in_the_order_of_a_covariate() -> None:
    """Inner categories are separated, too: thresholds run away with the coefficient."""
    x = [0.1, 0.9, 0.2, 1.0, 0.35, 0.5, 0.4, 0.55, 0.3, 0.95]
    data = small([1, 3, 1, 3, 2, 2, 2, 2, 1, 3], x)
    with pytest.raises(ValueError, match="`x` separates the outcome `y` completely"):
        mixed_model("y ~ x + (1 | id)", data, family="cumulative", verbose=0)
    data["y"] = [1, 3, 1, 3, 2, 2, 2, 2, 2, 2]
    fit = mixed_model("y ~ x + (1 | id)", data, family="cumulative", verbose=0)
    assert not any("separation" in note for note in fit.messages)
