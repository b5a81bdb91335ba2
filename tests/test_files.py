"""Files of other software: labels, levels, missing values and dates as they were."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import dgmm
from dgmm.files.labelled import Labelled

FILES = Path(__file__).parent / "reference" / "files"


@pytest.fixture(scope="module")
def spss(tmp_path_factory: pytest.TempPathFactory) -> Path:
    package = pytest.importorskip("pyreadstat")
    day = datetime.date(2020, 1, 1)
    frame = pd.DataFrame(
        {
            "arm": [2.0, 1.0, 1.0, 9.0, np.nan],
            "pain": [0.0, 5.0, 10.0, 99.0, 97.0],
            "grade": [1.0, 3.0, 2.0, 1.0, 1.0],
            "same": [1.0, 2.0, 3.0, 3.0, 3.0],
            "day": [day, None, day, day, day],
            "text": ["a", "b", "", "d", "e"],
        }
    )
    path = tmp_path_factory.mktemp("files") / "clinic.sav"
    package.write_sav(
        frame,
        str(path),
        variable_value_labels={
            "arm": {2: "active", 1: "placebo", 9: "unknown"},
            "pain": {0: "none", 10: "worst", 99: "refused"},
            "grade": {1: "mild", 2: "moderate", 3: "severe"},
            "same": {1: "yes", 2: "no", 3: "no"},
        },
        missing_ranges={"arm": [9], "pain": [{"lo": 90, "hi": 99}]},
        variable_measure={"arm": "nominal", "pain": "scale", "grade": "ordinal"},
    )
    return path


def test_labels_of_spss_are_categories_in_the_order_of_their_codes(spss: Path) -> None:
    frame = dgmm.read(spss)
    assert list(frame["arm"].cat.categories) == ["placebo", "active"]
    assert not frame["arm"].cat.ordered
    assert frame["arm"].tolist()[:3] == ["active", "placebo", "placebo"]
    assert frame["arm"].isna().tolist() == [False, False, False, True, True]
    assert list(frame["grade"].cat.categories) == ["mild", "moderate", "severe"]
    assert frame["grade"].cat.ordered
    assert dgmm.read(spss, ordered=["arm"])["arm"].cat.ordered


def test_declared_missing_values_are_missing_and_counted_by_label(spss: Path) -> None:
    frame = dgmm.read(spss)
    assert frame["pain"].dtype == float  # 5 has no label: a number with named ends
    np.testing.assert_array_equal(frame["pain"], [0, 5, 10, np.nan, np.nan])
    assert frame.attrs["missing"] == {"arm": {"unknown": 1}, "pain": {"97": 1, "refused": 1}}


def test_two_codes_of_one_label_stay_apart(spss: Path) -> None:
    assert list(dgmm.read(spss)["same"].cat.categories) == ["yes", "no [2]", "no [3]"]


def test_dates_stay_dates(spss: Path) -> None:
    day = dgmm.read(spss)["day"]
    assert day.dtype.kind == "M"
    assert day[0] == pd.Timestamp("2020-01-01")
    assert pd.isna(day[1])


def test_tagged_missing_values_of_stata_are_counted_by_tag() -> None:
    pytest.importorskip("pyreadstat")
    frame = dgmm.read(FILES / "tagged.dta")
    np.testing.assert_array_equal(frame["x"], [1.5, np.nan, 3, np.nan, np.nan])
    assert frame.attrs["missing"] == {"x": {".b": 1, "refused": 1}}
    assert list(frame["arm"].cat.categories) == ["placebo", "active", "high"]
    np.testing.assert_array_equal(frame["pain"], [0, 5, 10, 3, np.nan])
    assert frame["day"][4] == pd.Timestamp("2020-01-05")
    assert frame["s"].tolist() == ["a", "b", "", "d", "e"]


def test_frames_of_r_keep_factors_dates_and_missing_values() -> None:
    pytest.importorskip("rdata")
    frame = dgmm.read(FILES / "frame.rds")
    assert list(frame["arm"].cat.categories) == ["placebo", "active"]
    assert frame["arm"].isna().tolist() == [False, False, False, True]
    assert frame["sev"].cat.ordered
    assert list(frame["sev"]) == ["mild", "severe", "mild", "moderate"]
    assert frame["day"].tolist()[2] == pd.Timestamp("2020-02-01")
    assert frame["at"].tolist()[1] == pd.Timestamp("2020-01-01 11:00")
    assert frame["day"].isna().tolist() == [False, True, False, False]
    assert frame["ok"].isna().tolist() == [False, True, False, False]
    assert frame["n"].dropna().tolist() == [1, 3, 4]
    assert list(frame["lab"]) == ["no", "yes", "no", "yes"]
    with pytest.raises(ValueError, match="holds no data frame; in R, write saveRDS"):
        dgmm.read(FILES / "list.rds")


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_plain_files_are_those_of_pandas(tmp_path: Path, ending: str) -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0], "g": ["a", "b"]})
    path = tmp_path / f"plain{ending}"
    if ending == ".csv":
        frame.to_csv(path, index=False)
    else:
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    pd.testing.assert_frame_equal(dgmm.read(path), frame)
    with pytest.raises(ValueError, match="`g` has no categories whose order could be known"):
        dgmm.read(path, ordered=["g"])
    with pytest.raises(ValueError, match="ordered= names `z`"):
        dgmm.read(path, ordered=["z"])
    with pytest.raises(ValueError, match="catalog= belongs to a .sas7bdat file"):
        dgmm.read(path, catalog=path)


def test_unknown_endings_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data.xls: the ending of the name is none of .csv"):
        dgmm.read(tmp_path / "data.xls")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        dgmm.read(tmp_path / "data.csv")


def test_a_column_whose_values_all_have_labels_is_categorical() -> None:
    one = Labelled(pd.Series([3.0, 1.0, np.nan]), {3: "high", 1: "low", 2: "mid"}, ordered=True)
    found = one.column()
    assert list(found.cat.categories) == ["low", "mid", "high"]
    assert found.cat.codes.tolist() == [2, 0, -1]
    assert one.missing() == {}
