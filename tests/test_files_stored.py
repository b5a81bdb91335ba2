"""Tables read through DuckDB: counts, levels, sums and quantiles against those of pandas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dgmm.files.stored import Stored, is_stored, open_stored, quantiles, quoted

duckdb = pytest.importorskip("duckdb")
arrow = pytest.importorskip("pyarrow")
dataset = pytest.importorskip("pyarrow.dataset")


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "x": [1.0, np.nan, 3.0, np.inf, 5.0],
            "n": pd.array([1, 2, None, 4, 5], dtype="Int64"),
            "t": [True, False, None, True, True],
            "g": pd.Categorical(["lo", "hi", None, "lo", "hi"], ["lo", "mid", "hi"], ordered=True),
            "s": ["b", "a", "b", None, "a"],
            'o"dd': pd.to_datetime(["2020-01-01"] * 5),
        }
    )


@pytest.fixture
def table(frame: pd.DataFrame, tmp_path: Path) -> Stored:
    frame.to_parquet(tmp_path / "x.parquet")
    return open_stored(tmp_path / "x.parquet")


def test_quotes_are_doubled() -> None:
    assert quoted('a"b" --') == '"a""b"" --"'


def test_what_is_stored(frame: pd.DataFrame, table: Stored, tmp_path: Path) -> None:
    kept = [str(tmp_path), tmp_path, dataset.dataset(tmp_path), table.relation]
    assert all(map(is_stored, kept))
    assert not any(map(is_stored, [frame, {"x": [1]}, arrow.Table.from_pandas(frame), None, 3]))


def test_kinds_and_levels(table: Stored) -> None:
    kinds = {name: table.kind(name) for name in table.names}
    assert kinds == {
        "x": "number",
        "n": "number",
        "t": "boolean",
        "g": "category",
        "s": "category",
        'o"dd': "timestamp",
    }
    assert table.dictionary("g") == (["lo", "mid", "hi"], True)
    assert table.dictionary("s") is None
    assert sorted(filter(None, table.levels("s", 5))) == ["a", "b"]
    with pytest.raises(ValueError, match="more than 1 levels"):
        table.levels("s", 1)


def test_gaps_are_counted_as_in_a_frame(table: Stored, frame: pd.DataFrame) -> None:
    names = ["x", "n", "t", "g", "s"]
    total, dropped, gaps, infinite = table.faults(names, names)
    missing = frame[names].isna()
    assert total == 5
    assert dropped == missing.any(axis=1).sum()
    assert gaps == missing.sum().to_dict()
    assert infinite == {"x": 1}
    assert table.complete(names).faults(names, ["n"]) == (2, 0, {}, {})
    assert table.complete(["n"]).extremes(["n"]) == {"n": (1.0, 5.0)}


def test_batches_are_doubles_and_words(table: Stored) -> None:
    (batch,) = table.complete(["x"]).batches(["n", "t", "g"], ["s"])
    assert batch.columns[0].to_pylist() == ["b", "b", None, "a"]
    assert batch.columns[1].to_pylist() == [1.0, None, 4.0, 5.0]
    assert batch.columns[2].to_pylist() == [1.0, None, 1.0, 1.0]
    assert batch.columns[3].to_pylist() == ["lo", None, "lo", "hi"]


def test_keys_are_each_value_once(table: Stored) -> None:
    assert sorted(table.complete(["s"]).keys("s")) == ["a", "b"]
    assert sorted(table.complete(["n"]).keys("n")) == [1, 2, 4, 5]


@pytest.mark.parametrize("size", [5, 1_000])
def test_quantiles_are_those_of_r(size: int) -> None:
    values, at = np.random.default_rng(1).exponential(size=size), [0.1, 1 / 3, 0.5, 0.9]
    found = quantiles(iter(np.array_split(values, 4)), at)
    np.testing.assert_allclose(found, np.quantile(values, at), rtol=1e-14)


def test_paths_that_are_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.parquet", str(tmp_path / "*.parquet")):
        with pytest.raises(FileNotFoundError, match="there is no parquet file"):
            open_stored(path)
    (tmp_path / "x.csv").write_text("x\n1\n")
    with pytest.raises(ValueError, match=r"not 'x.csv'; read others by dgmm.read"):
        open_stored(tmp_path / "x.csv")


def test_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(name: str) -> Any:
        raise ImportError(name)

    (tmp_path / "x.parquet").touch()
    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(ImportError, match=r"package duckdb: pip install 'dgmm\[large\]'"):
        open_stored(tmp_path)
