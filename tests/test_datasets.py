"""The data sets: every file is complete, typed as in R, and described with its licence."""

import re

import pandas as pd
import pytest

from dgmm import datasets

SIZES = {
    "beavers": (214, 5),
    "bodyweight": (176, 4),
    "btheb_wide": (100, 9),
    "cbpp": (56, 4),
    "contraception": (1934, 6),
    "empluk": (1031, 7),
    "epil": (236, 9),
    "eustockmarkets": (1860, 5),
    "grouseticks": (403, 7),
    "grunfeld": (200, 5),
    "males": (4360, 12),
    "math_ach_school": (160, 7),
    "math_achieve": (7185, 6),
    "milk": (1337, 4),
    "nafld_labs": (15207, 4),
    "nafld_subjects": (500, 8),
    "orthodont": (108, 4),
    "ovary": (308, 3),
    "pbc": (418, 20),
    "pbcseq": (1945, 19),
    "psid7682": (4165, 14),
    "radon": (919, 4),
    "schizophrenia2": (220, 4),
    "sim_beta": (800, 4),
    "sim_gamma": (3000, 4),
    "sleepstudy": (180, 3),
    "toenail": (1908, 5),
    "wine": (72, 6),
}


def test_available_lists_every_file() -> None:
    assert datasets.available() == sorted(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_load_reads_every_row_and_column(name: str) -> None:
    frame = datasets.load(name)
    assert frame.shape == SIZES[name]
    for column in frame:
        kind = frame[column].dtype
        assert isinstance(kind, pd.CategoricalDtype) or pd.api.types.is_numeric_dtype(kind), column


@pytest.mark.parametrize("name", SIZES)
def test_load_loses_no_value(name: str) -> None:
    frame = datasets.load(name)
    text = (datasets._folder() / f"{name}.csv").read_text(encoding="utf-8")
    empty = sum(field == "" for line in text.splitlines() for field in datasets.FIELD.findall(line))
    assert frame.isna().to_numpy().sum() == empty


@pytest.mark.parametrize("name", SIZES)
def test_describe_names_size_citation_licence_and_columns(name: str) -> None:
    frame, text = datasets.load(name), datasets.describe(name)
    assert f"({frame.shape[0]} rows, {frame.shape[1]} columns)" in text
    assert all(word in text for word in ("Origin:", "Citation:", "Licence:", "Traps:"))
    licence = text.partition("Licence:")[2].partition("Columns:")[0]
    assert ("BSD 3-Clause" if name.startswith("sim_") else "GPL") in licence
    assert [column for column in frame if not re.search(rf"\b{re.escape(column)}\b", text)] == []
    assert not set("\n`") & set(text)


@pytest.mark.parametrize(
    ("name", "column", "levels"),
    [
        ("cbpp", "period", ["1", "2", "3", "4"]),
        ("contraception", "livch", ["0", "1", "2", "3+"]),
        ("epil", "trt", ["placebo", "progabide"]),
        ("math_ach_school", "Sector", ["Public", "Catholic"]),
        ("math_achieve", "Sex", ["Male", "Female"]),
        ("orthodont", "Sex", ["Male", "Female"]),
        ("pbc", "sex", ["m", "f"]),
        ("pbcseq", "sex", ["m", "f"]),
        ("psid7682", "gender", ["male", "female"]),
        ("schizophrenia2", "disorder", ["absent", "present"]),
        ("toenail", "outcome", ["none or mild", "moderate or severe"]),
        ("toenail", "treatment", ["itraconazole", "terbinafine"]),
        ("wine", "rating", ["1", "2", "3", "4", "5"]),
    ],
)
def test_levels_are_in_the_order_of_r(name: str, column: str, levels: list[str]) -> None:
    assert list(datasets.load(name)[column].cat.categories) == levels


@pytest.mark.parametrize("name", datasets.LEVELS)
def test_stated_levels_are_those_of_the_file(name: str) -> None:
    frame = datasets.load(name)
    for column, levels in datasets.LEVELS[name].items():
        assert set(frame[column].dropna()) == set(levels)


def test_numbers_as_labels_stay_labels_in_numeric_order() -> None:
    subjects = datasets.load("sleepstudy")["Subject"].cat.categories
    assert list(subjects[:3]) == ["308", "309", "310"]
    herds = datasets.load("cbpp")["herd"].cat.categories
    assert list(herds) == [str(herd) for herd in range(1, 16)]


def test_only_stated_columns_are_ordered() -> None:
    ordered = {
        (name, column)
        for name in SIZES
        for column, values in datasets.load(name).items()
        if isinstance(values.dtype, pd.CategoricalDtype) and values.dtype.ordered
    }
    assert ordered == datasets.ORDERED


def test_commas_inside_quotes_do_not_shift_columns() -> None:
    occupations = datasets.load("males")["occupation"].cat.categories
    assert "Craftsmen, Foremen_and_kindred" in occupations


def test_unknown_name_gets_the_nearest_and_the_list() -> None:
    with pytest.raises(ValueError, match="Did you mean 'sleepstudy'.*Available: beavers, body"):
        datasets.load("sleepstud")
    with pytest.raises(ValueError, match="no data set '../README'"):
        datasets.describe("../README")


def test_load_returns_a_fresh_frame() -> None:
    frame = datasets.load("cbpp")
    frame["size"] = 0
    assert datasets.load("cbpp")["size"].min() > 0
