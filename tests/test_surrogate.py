"""Columns of rows that are not in memory, and the few rows that have their moments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dgmm.datasets import load
from dgmm.design import (
    LeftOut,
    Reading,
    build_design,
    complete_stored,
    open_reading,
    read_names,
    surrogate,
)
from dgmm.files import stored
from dgmm.files.stored import open_stored
from dgmm.formula import parse_formula

pytest.importorskip("duckdb")
pytest.importorskip("pyarrow")

FORMULA = "distance ~ ns(age, 3) * Sex + (age | Subject)"


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "ROWS", 17)


def reading_of(formula: str, frame: pd.DataFrame, folder: Path) -> tuple[Reading, LeftOut]:
    frame.to_parquet(folder / "rows.parquet")
    table = open_stored(folder / "rows.parquet")
    parsed = parse_formula(formula)
    covariates, (group,), outcomes = read_names(parsed, table.names)
    rows, left_out = complete_stored(table, covariates, group, outcomes, [], False)
    return open_reading(parsed, rows, group, covariates, outcomes, None, None), left_out


@pytest.fixture
def growth() -> pd.DataFrame:
    frame = load("orthodont").sample(frac=1, random_state=2).reset_index(drop=True)
    frame["age"] = frame["age"] + np.linspace(0, 0.3, len(frame))
    frame.loc[[3, 40], "distance"] = np.nan
    frame.loc[[7], "Sex"] = np.nan
    return frame


def test_columns_are_those_of_a_design(growth: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="1 of 108 rows"):
        design = build_design(parse_formula(FORMULA), growth)
    reading, left_out = reading_of(FORMULA, growth, tmp_path)
    assert left_out == design.left_out
    plain = reading.columns()
    assert plain["fixed"].names == design.fixed.names
    assert plain["fixed"].terms == design.fixed.terms
    assert reading.states.keys() == design.spec.states.keys()
    names = {key: one.names for key, one in plain.items()}
    found = list(reading.batches(names))
    assert len(found) == 7
    X, T = (np.concatenate([one.blocks[key] for one in found]) for key in ("fixed", "latent 0"))
    y, own = np.concatenate([one.y for one in found]), np.argsort(design.rows)
    np.testing.assert_allclose(X, design.fixed.matrix[own], rtol=0, atol=1e-12)
    np.testing.assert_allclose(T, design.latents[0].columns.matrix[own], rtol=1e-14)
    np.testing.assert_array_equal(y, design.y[own])


def test_a_few_rows_have_the_moments_of_all(growth: pd.DataFrame, tmp_path: Path) -> None:
    reading, left_out = reading_of(FORMULA, growth, tmp_path)
    found = surrogate(reading, left_out, read_names(reading.formula, growth.columns)[0])
    with pytest.warns(UserWarning, match="1 of 108 rows"):
        design = build_design(parse_formula(FORMULA), growth)
    seen = design.observed
    assert found.rows == seen.sum() == 105

    def moments(one: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return one.mean(0), one.T @ one / len(one)

    def columns(X: np.ndarray, T: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.column_stack([X, T, y])

    one, T = found.design, design.latents[0].columns.matrix
    few = columns(one.fixed.matrix, one.latents[0].columns.matrix, one.y)
    many = columns(design.fixed.matrix[seen], T[seen], design.y[seen])
    for ours, theirs in zip(moments(few), moments(many), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    assert len(few) == 2 + 8 + 2
    np.testing.assert_allclose(one.fixed.matrix[:, 0], 1.0, rtol=1e-13)
    assert (found.low, found.high) == (design.y[seen].min(), design.y[seen].max())
    assert found.time == (design.time.min(), design.time.max())
    assert one.spec.time_name == design.spec.time_name == "age"
    assert one.spec.variables == design.spec.variables


def test_dependent_columns_are_found_in_a_few_rows(growth: pd.DataFrame, tmp_path: Path) -> None:
    formula = "distance ~ age + I(3 - 2 * age) + I(0 * age) + Sex + (1 | Subject)"
    reading, left_out = reading_of(formula, growth, tmp_path)
    found = surrogate(reading, left_out, ("age", "Sex")).design
    with pytest.warns(UserWarning, match="missing values"):
        design = build_design(parse_formula(formula), growth)
    ours, theirs = found.spec.aliases["fixed"], design.spec.aliases["fixed"]
    assert [one.reason for one in ours] == [one.reason for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.name == other.name
        assert one.weights == pytest.approx(other.weights, rel=1e-9)
    assert found.fixed.names == design.fixed.names
    assert found.messages == design.messages


@pytest.mark.parametrize(
    "text", ["poly(age, 3)", "bs(age, 5)", "ns(log(age), 4)", "scale(age)", "scale(poly(age, 1))"]
)
def test_states_are_learnt_as_in_memory(text: str, growth: pd.DataFrame, tmp_path: Path) -> None:
    formula = f"distance ~ {text} + (1 | Subject)".replace("scale(poly(age, 1))", "center(age)")
    reading, _ = reading_of(formula, growth, tmp_path)
    reading.columns()
    states = build_design(parse_formula(formula), growth).spec.states
    assert reading.states.keys() == states.keys()
    for key, state in states.items():
        for name, value in state.items():
            np.testing.assert_allclose(reading.states[key][name], value, rtol=1e-12, atol=1e-13)


def test_numbers_become_levels(growth: pd.DataFrame, tmp_path: Path) -> None:
    frame = growth.assign(year=growth["age"].round())
    formula = "distance ~ factor(year) + C(Sex, base='Female') + (1 | Subject)"
    reading, _ = reading_of(formula, frame, tmp_path)
    reading.columns()
    with pytest.warns(UserWarning, match="missing values"):
        states = build_design(parse_formula(formula), frame).spec.states
    assert reading.states == states


def test_dates_are_no_numbers(growth: pd.DataFrame, tmp_path: Path) -> None:
    frame = growth.assign(when=pd.Timestamp("2020-01-31"), text="2020-01-31")
    with pytest.raises(ValueError, match="`when` holds timestamp"):
        reading_of("distance ~ when + (1 | Subject)", frame, tmp_path)
    with pytest.raises(ValueError, match="`text` holds text like '2020-01-31': a date"):
        reading_of("distance ~ text + (1 | Subject)", frame, tmp_path)
