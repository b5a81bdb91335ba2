"""Labels: the same subject has the same key in every type, frame library and stage of a fit."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import dgmm
from dgmm import Fit, mixed_model
from dgmm.design import build_design
from dgmm.design.labels import (
    factorize,
    joined_label,
    label_array,
    label_key,
    natural_order,
    places_among,
    plain_label,
)
from dgmm.design.variables import read_column, recall_column
from dgmm.formula import parse_formula
from dgmm.panel import Panel
from dgmm.variational.training import _uniform

DAYS = [datetime.date(2020, 1, 31), datetime.date(2020, 2, 29), datetime.date(2021, 12, 1)]
TIMES = [datetime.datetime(2020, 1, 31, hour) for hour in (1, 2, 3)]


@pytest.mark.parametrize(
    ("labels", "plain"),
    [
        ([3, 3.0, np.float32(3), np.uint8(3), Decimal("3.00"), Fraction(6, 2), "3"], 3),
        ([0.1, np.float32(0.1), np.float16(0.1), Decimal("0.10"), "0.1"], 0.1),
        ([2**60 + 1, np.int64(2**60 + 1), Decimal(2**60 + 1)], 2**60 + 1),
        ([DAYS[0], pd.Timestamp(DAYS[0]), np.datetime64("2020-01-31", "ns")], "2020-01-31"),
        (
            [
                pd.Timestamp("2020-01-31 12:30", tz="UTC"),
                pd.Timestamp("2020-01-31 13:30", tz="Europe/Paris"),
            ],
            "2020-01-31 12:30:00+00:00",
        ),
        ([datetime.timedelta(2), np.timedelta64(2, "D"), pd.Timedelta("48h")], "2 days 00:00:00"),
        ([pd.Interval(0, 1), pd.Interval(0.0, np.float32(1))], "(0, 1]"),
        ([pd.Period("2020-01", "M")], "2020-01"),
        ([(1, "a"), (1.0, "a")], "(1, a)"),
        ([True, np.True_, "True"], True),
    ],
)
def test_one_plain_form_and_one_key(labels: list[Any], plain: Any) -> None:
    assert plain_label(labels[0]) == plain
    assert type(plain_label(labels[0])) is type(plain)
    assert {label_key(label) for label in labels} == {str(plain)}


def test_labels_that_are_not_the_same() -> None:
    labels = [1, True, 1.5, "1.0", "01", 2**60, 2**60 + 1, pd.Timestamp("2020-01-01 00:00:01")]
    labels += [pd.Timestamp("2020-01-01"), pd.Timestamp("2020-01-01", tz="UTC"), (1,), ("1", "")]
    assert len({label_key(label) for label in labels}) == len(labels)


def test_pairs_with_colons_are_told_apart() -> None:
    pairs = [("a:b", "c"), ("a", "b:c"), ('"a:b"', "c"), ('"a', 'b":c'), ("a", "b"), (1, 2)]
    labels = [joined_label(pair) for pair in pairs]
    assert labels[:2] == ['"a:b":c', 'a:"b:c"']
    assert labels[-2:] == ["a:b", "1:2"]
    assert len(set(labels)) == len(pairs)


def test_labels_of_a_column_are_merged_by_key() -> None:
    codes, labels = factorize(pd.Series([1, "1", 1.0, True, None, "b"], dtype=object))
    assert codes.tolist() == [0, 0, 0, 1, -1, 2]
    assert labels.tolist() == [1, True, "b"]
    big = pd.Series([2**60 + 1, 2**60, None], dtype="Int64")
    codes, labels = factorize(big)
    assert (codes.tolist(), labels.tolist()) == ([1, 0, -1], [2**60, 2**60 + 1])
    assert labels.dtype == np.int64


def test_natural_order_is_exact() -> None:
    labels = np.array([2**70 + 1, 2**70, 0.5], dtype=object)
    assert natural_order(labels).tolist() == [2, 1, 0]
    assert natural_order(["10", "9", "1e1"]).tolist() == [1, 0, 2]
    assert natural_order(["b", "10", "9"]).tolist() == [1, 2, 0]


# -- every type in every library at every stage ----------------------------------------------------

BIG = [2**60 + k for k in range(3)]
TYPES: dict[str, Callable[[], list[Any]]] = {
    "integer": lambda: [1, 2, 10],
    "beyond 2^53": lambda: list(BIG),
    "whole float": lambda: [1.0, 2.0, 10.0],
    "float": lambda: [0.1, 0.2, 2.5],
    "float32": lambda: list(np.array([0.1, 0.2, 2.5], dtype=np.float32)),
    "decimal": lambda: [Decimal("0.10"), Decimal("0.20"), Decimal("12345678901234567890.25")],
    "text": lambda: ["b", "a", "c:d"],
    "boolean and more": lambda: [True, False, True],
    "date": lambda: list(DAYS),
    "datetime": lambda: list(TIMES),
    "nanoseconds": lambda: list(pd.to_datetime([1, 2, 10**18 + 1])),
    "zone": lambda: list(pd.to_datetime(TIMES).tz_localize("Europe/Paris")),
    "timedelta": lambda: [datetime.timedelta(k) for k in (1, 2, 3)],
    "period": lambda: list(pd.period_range("2020-01", periods=3, freq="M")),
    "interval": lambda: list(pd.interval_range(0, 3)),
}
ARROWLESS = ("period", "interval")  # Arrow has no such type: text


def columns(kind: str) -> dict[str, list[Any]]:
    """Three subjects of four rows (a boolean has two) with levels that lie far apart."""
    ids = TYPES[kind]()
    level = {label_key(one): 5.0 * k for k, one in enumerate(ids)}
    noise = np.random.default_rng(4).normal(size=12)
    rows = [one for one in ids for _ in range(4)]
    y = [level[label_key(one)] + e for one, e in zip(rows, noise, strict=True)]
    return {"id": rows, "x": np.tile(np.arange(4.0), 3).tolist(), "y": y}


def as_frame(content: dict[str, list[Any]], library: str, kind: str) -> Any:
    if library == "dict":
        return dict(content)
    if library == "objects":
        return pd.DataFrame({**content, "id": pd.Series(content["id"], dtype=object)})
    frame = pd.DataFrame(content)
    if kind == "float32":
        frame["id"] = frame["id"].astype("float32")
    if library == "pandas":
        return frame
    if library == "categories":
        return frame.assign(id=pd.Categorical(frame["id"]))
    if kind in ARROWLESS:
        frame["id"] = [label_key(one) for one in frame["id"]]
    table = pa.Table.from_pandas(frame, preserve_index=False)
    return table if library == "pyarrow" else pl.from_arrow(table)


LIBRARIES = ("pandas", "objects", "categories", "dict", "pyarrow", "polars")


@cache
def fitted(kind: str, library: str) -> Fit:
    return mixed_model("y ~ x + (1 | id)", as_frame(columns(kind), library, kind), se=None,
                       verbose=0)  # fmt: skip


@pytest.mark.parametrize("kind", TYPES)
def test_a_subject_is_itself_in_every_library_and_at_every_stage(kind: str, tmp_path: Path) -> None:
    content = columns(kind)
    past = {name: values[:2] + values[4:] for name, values in content.items()}
    fit = fitted(kind, "pandas")
    fit.save(tmp_path / "fit")
    again, other = dgmm.load(tmp_path / "fit"), fitted(kind, "polars")
    truth = fit.fitted()
    expected = fit.predict(columns(kind), history=past)["fit"]
    assert (abs(expected - truth) > 1e-3).sum() >= 4  # the subject with a shorter past
    for found in (again, other):
        np.testing.assert_allclose(found.fitted(), truth, rtol=1e-8)
        assert found.ranef().index.equals(fit.ranef().index)
    for library in LIBRARIES:
        frame = as_frame(content, library, kind)
        for one in (fit, again):
            np.testing.assert_allclose(one.predict(frame)["fit"], truth, rtol=1e-8)
        found = again.predict(frame, history=as_frame(past, library, kind))["fit"]
        np.testing.assert_allclose(found, expected, rtol=1e-8)


@pytest.mark.parametrize(
    ("fitted_as", "given_as"),
    [
        ([1, 2, 10], ["1", "2", "10"]),
        ([1, 2, 10], [Decimal("1.0"), Decimal(2), Decimal(10)]),
        ([0.1, 0.2, 2.5], np.array([0.1, 0.2, 2.5], dtype=np.float32)),
        (["1", "2", "10"], pd.array([1, 2, 10], dtype="UInt8")),
        (DAYS, pd.to_datetime(DAYS)),
        (["2020-01-31", "2020-02-29", "2021-12-01"], DAYS),
    ],
)
def test_ids_written_by_another_type_find_their_own(fitted_as: Any, given_as: Any) -> None:
    frame = pd.DataFrame(columns("integer")).assign(id=np.repeat(pd.Series(fitted_as), 4).array)
    fit = mixed_model("y ~ x + (1 | id)", frame, se=None, verbose=0)
    again = frame.assign(id=np.repeat(pd.Series(given_as), 4).array)
    np.testing.assert_allclose(fit.predict(again)["fit"], fit.fitted(), rtol=1e-8)


def test_whole_numbers_beside_missing_ones_stay_whole() -> None:
    ids = [2**60 + k for k in range(60)]
    rng = np.random.default_rng(5)
    content = {"id": [*np.repeat(ids, 4).tolist(), None], "y": rng.normal(size=241).tolist()}
    for frame in (pl.DataFrame(content), pl.DataFrame(content).to_arrow()):
        with pytest.warns(UserWarning, match="1 of 241 rows .*1 for `id`"):
            fit = mixed_model("y ~ 1 + (1 | id)", frame, se=None, verbose=0)
        assert fit.ranef().index.tolist() == ids


def test_nested_groups_with_colons_are_separate_subjects() -> None:
    rng = np.random.default_rng(6)
    pairs = [("a:b", "c"), ("a", "b:c"), ("a", "c"), ("a:b", "b:c")]
    frame = pd.DataFrame([pair for pair in pairs for _ in range(6)], columns=["a", "c"])
    frame["y"] = np.repeat([0.0, 10.0, 20.0, 30.0], 6) + rng.normal(size=24)
    fit = mixed_model("y ~ 1 + (1 | a:c)", frame, se=None, verbose=0)
    plain = frame.assign(id=np.repeat([2, 1, 3, 4], 6))
    other = mixed_model("y ~ 1 + (1 | id)", plain, se=None, verbose=0)
    np.testing.assert_allclose(fit.fitted(), other.fitted(), rtol=1e-8)
    np.testing.assert_allclose(fit.predict(frame, history=frame)["fit"], other.fitted(), rtol=1e-8)
    found = fit.ranef()["(Intercept)"]
    assert found['"a:b":c'] < -10 < found['a:"b:c"'] < 0


def test_seeds_of_a_subject_do_not_hang_on_the_type_of_its_id() -> None:
    """Draws of importance sampling and the subjects that a training holds out."""
    content = pd.DataFrame(columns("integer"))
    found = []
    for kind in (int, float, str, "Int64", "category"):
        frame = content.assign(id=content["id"].astype(kind))
        panel = Panel.from_design(build_design(parse_formula("y ~ x + (1 | id)"), frame))
        found.append((panel.keys, [_uniform(one) for one in panel.ids]))
    assert all(one == found[0] for one in found)
    assert len(set(found[0][0])) == 3


@pytest.mark.parametrize("levels", [BIG, [np.float32(0.1), np.float32(2)], [True, False]])
def test_levels_of_a_category_do_not_pass_through_floats(levels: list[Any]) -> None:
    known = read_column(pd.Series(pd.Categorical(levels)), "g").variable
    assert known.levels == tuple(sorted(map(plain_label, levels)))
    for series in (pd.Series(levels), pd.Series([*levels, None], dtype=object)):
        found = recall_column(series, known)
        assert [known.levels[code] for code in found.values[: len(levels)]] == [
            plain_label(level) for level in levels
        ]


def test_two_factors_of_dates_are_found_by_another_library_and_after_a_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    day, site = rng.permutation(np.repeat(DAYS, 20)).tolist(), np.tile(list("abcd"), 15).tolist()
    y = [5.0 * DAYS.index(one) + e for one, e in zip(day, rng.normal(size=60), strict=True)]
    frame = pd.DataFrame({"day": pd.to_datetime(day), "site": site, "y": y})
    fit = mixed_model("y ~ 1 + (1 | day) + (1 | site)", frame, se=None, verbose=0)
    fit.save(tmp_path / "fit")
    other = pl.DataFrame({"day": day, "site": site})
    for one in (fit, dgmm.load(tmp_path / "fit")):
        np.testing.assert_allclose(one.predict(other)["fit"], fit.fitted(), rtol=1e-8)
        assert one.ranef()["day"].index.tolist() == [str(one) for one in sorted(DAYS)]
    with pytest.warns(UserWarning, match="no column `day`: .* population of `day`"):
        found = fit.predict(other.drop("day"))["fit"]
    assert found.std() < 1 < fit.fitted().std()


def test_a_label_written_in_two_ways_is_one_subject_and_named() -> None:
    content = columns("integer")
    both = pd.DataFrame({**content, "id": pd.Series([1, "1", *content["id"][2:]], dtype=object)})
    with pytest.warns(UserWarning, match="`id` holds 1 as text and as another type: each is one"):
        fit = mixed_model("y ~ x + (1 | id)", both, se=None, verbose=0)
    np.testing.assert_allclose(fit.fitted(), fitted("integer", "pandas").fitted(), rtol=1e-8)
    assert fit.ranef().index.tolist() == [1, 2, 10]


def test_whole_numbers_of_a_dict_with_a_gap_keep_their_digits() -> None:
    ids = [i + 2**53 for i in np.repeat(np.arange(12), 4).tolist()]
    y = np.random.default_rng(0).normal(size=48) + np.repeat(np.arange(12), 4)
    for gap in (None, float("nan")):
        data = {"id": [gap, *ids[1:]], "y": y}
        fit = mixed_model("y ~ 1 + (1 | id)", data, verbose=0)
        assert fit.n_groups() == 12


@pytest.mark.parametrize("known", [[-5, 3, 7, 2**53 + 1, 2**63 - 1], ["3", "b", "-5"], []])
def test_places_are_those_of_the_keys(known: list[Any]) -> None:
    """Whole numbers in order are searched, others hashed: the places are the same."""
    asked = [3, "3", 3.0, 3.5, "03", None, "b", -5, 2**53, 2**53 + 1, 2**63 - 1, 10**30, "", "--5"]
    keys = [label_key(one) for one in known]
    wanted = [
        keys.index(label_key(one)) if one is not None and label_key(one) in keys else -1
        for one in asked
    ]
    assert places_among(asked, label_array(known)).tolist() == wanted
