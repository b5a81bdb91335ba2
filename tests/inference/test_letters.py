"""Compact letters: two means share one exactly where they were not told apart."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from conftest import data

from dgmm import mixed_model
from dgmm.inference.letters import compact_letters


@pytest.mark.parametrize("seed", range(20))
def test_letters_are_shared_exactly_by_pairs_not_told_apart(seed: int) -> None:
    random = np.random.default_rng(seed)
    size = int(random.integers(2, 8))
    apart = {pair for pair in combinations(range(size), 2) if random.random() < 0.4}
    letters = compact_letters(size, sorted(apart))
    for i, j in combinations(range(size), 2):
        assert bool(set(letters[i]) & set(letters[j])) == ((i, j) not in apart)


def test_known_layouts() -> None:
    assert compact_letters(3, []) == ["a", "a", "a"]
    assert compact_letters(3, [(0, 1), (0, 2), (1, 2)]) == ["a", "b", "c"]
    assert compact_letters(3, [(0, 2)]) == ["a", "ab", "b"]


def test_letters_of_means() -> None:
    formula = "distance ~ factor(age) + Sex + (1 | Subject)"
    fit = mixed_model(formula, data("orthodont"), method="reml", verbose=0)
    means = fit.emmeans("age")
    found = means.letters()
    pairs = means.pairs()["Pr(>|t|)"]
    for (i, j), p in zip(combinations(range(4), 2), pairs, strict=True):
        shared = set(found["letters"].iloc[i]) & set(found["letters"].iloc[j])
        assert bool(shared) == (p >= 0.05)
    assert "share a letter are not told apart (tukey, level 0.95)" in str(found)
    assert "interaction" not in str(means)
    crossed = fit.update("distance ~ factor(age) * Sex + (1 | Subject)")
    assert "averages over an interaction, `factor(age):Sex`" in str(crossed.emmeans("age"))
    assert "interaction" not in str(crossed.emmeans("age", by="Sex"))
