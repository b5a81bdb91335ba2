"""Files of SPSS, Stata and SAS, read by pyreadstat."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pandas as pd

from dgmm.files.labelled import Code, Labelled

__all__ = ["READERS", "read_statistical"]

READERS = {
    ".sav": "read_sav",
    ".zsav": "read_sav",
    ".por": "read_por",
    ".dta": "read_dta",
    ".sas7bdat": "read_sas7bdat",
    ".xpt": "read_xport",
}


def read_statistical(
    package: Any, path: Path, ordered: Collection[str], catalog: Path | None
) -> dict[str, Labelled]:
    """The columns of a file by name; ``package`` is pyreadstat."""
    reader = getattr(package, READERS[path.suffix.lower()])
    options: dict[str, Any] = (
        {} if path.suffix.lower() in (".por", ".xpt") else {"user_missing": True}
    )
    if catalog is not None:
        options["catalog_file"] = str(catalog)
    frame, meta = reader(str(path), **options)
    return {
        str(name): Labelled(
            _dates(frame[name]),
            meta.variable_value_labels.get(name, {}),
            _missing(meta.missing_ranges.get(name, []), meta.missing_user_values.get(name, [])),
            name in ordered or meta.variable_measure.get(name) == "ordinal",
        )
        for name in frame.columns
    }


def _missing(ranges: list[dict[str, Any]], tags: Collection[str]) -> Callable[[Code], bool]:
    def is_missing(code: Any) -> bool:
        if isinstance(code, str):
            return code in tags or any(one["lo"] == code for one in ranges)
        return any(
            one["lo"] <= code <= one["hi"] for one in ranges if not isinstance(one["lo"], str)
        )

    return is_missing


def _dates(values: pd.Series) -> pd.Series:
    """Dates as pandas has them, times of day as they are."""
    seen = values.dropna()
    if values.dtype != object or not len(seen) or not isinstance(seen.iloc[0], datetime.date):
        return values
    return pd.to_datetime(values)
