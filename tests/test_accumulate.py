"""Sums of products by subject against those of pandas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dgmm.large import accumulate
from dgmm.large.accumulate import BySubject


@pytest.mark.parametrize("kind", ["numbers", "text", "sorted"])
def test_sums_of_products_by_label(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accumulate, "SHARE", 100)
    rng = np.random.default_rng(3)
    labels = pd.Series(rng.integers(0, 40, 3_000))
    labels = labels.sort_values(ignore_index=True) if kind == "sorted" else labels
    labels = "p" + labels.astype(str) if kind == "text" else labels
    values = rng.normal(size=(3, 3_000))
    found = BySubject(labels.drop_duplicates(), [(0, 0), (1, 2)])
    for at in np.array_split(np.arange(3_000), 7):
        found.add(labels.iloc[at], values[:, at])
    frame = pd.DataFrame({"k": labels, "s": values[0] ** 2, "p": values[1] * values[2]})
    wanted = frame.groupby("k").sum()
    wanted = wanted.loc[sorted(wanted.index)]
    assert found.labels.tolist() == wanted.index.tolist()
    np.testing.assert_allclose(found.sums, wanted[["s", "p"]], rtol=1e-11, atol=1e-12)


def test_a_label_written_in_two_ways_is_one_subject() -> None:
    found = BySubject(pd.Series(["1", 1, "a"], dtype=object), [(0, 0)])
    found.add(pd.Series([1, "a", "1", "1"], dtype=object), np.array([[1.0, 2.0, 3.0, 4.0]]))
    assert found.labels.tolist() == [1, "a"] or found.labels.tolist() == ["1", "a"]
    assert found.sums.ravel().tolist() == [26.0, 4.0]
