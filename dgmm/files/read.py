"""Read a data file by the ending of its name."""

from __future__ import annotations

import importlib
from collections.abc import Collection
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from dgmm.files.labelled import Labelled
from dgmm.files.r import read_r
from dgmm.files.statistical import READERS, read_statistical
from dgmm.runtime.gate import gate

__all__ = ["ENDINGS", "read"]

PLAIN = {".csv": pd.read_csv, ".parquet": pd.read_parquet}

ENDINGS = (*PLAIN, ".rds", *READERS)
"""Of the files that can be read."""


@gate
def read(
    path: str | PathLike[str],
    *,
    ordered: Collection[str] = (),
    catalog: str | PathLike[str] | None = None,
) -> pd.DataFrame:
    """Read a data file into a data frame that formulas can use.

    The ending of the name says the format: ``.csv``, ``.parquet``, ``.rds`` (R, one data frame),
    ``.sav``, ``.zsav``, ``.por`` (SPSS), ``.dta`` (Stata), ``.sas7bdat``, ``.xpt`` (SAS). Those of
    R, SPSS, Stata and SAS need ``pip install 'dgmm[files]'``.

    Codes with labels become categories in the order of the codes, not of the alphabet; ordered ones
    where the file calls the variable ordinal (SPSS) or ``ordered`` names it. A variable with
    unlabelled values beside labelled ones (0 "none" to 10 "worst") stays a number. Values that the
    file declares missing (of SPSS) and tagged missing values (``.a`` to ``.z``) become missing;
    how many there were of each stands in ``frame.attrs["missing"]``, by variable and label. Dates
    stay dates. R's factors keep their levels and order.

    path: the file.
    ordered: variables with labels whose categories have an order.
    catalog: the file of formats that belongs to a ``.sas7bdat``.

    Raises ValueError for an unknown ending, FileNotFoundError for a file that is not there,
    ImportError where the extra is not installed.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(f"{path.name}: the ending of the name is none of {', '.join(ENDINGS)}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if catalog is not None and ending != ".sas7bdat":
        raise ValueError(f"catalog= belongs to a .sas7bdat file, and this is {path.name}")
    if ending in PLAIN:
        return _ordered(PLAIN[ending](path), ordered, path)
    if ending == ".rds":
        columns = read_r(_package("rdata", path), path, ordered)
    else:
        of_formats = None if catalog is None else Path(catalog)
        columns = read_statistical(_package("pyreadstat", path), path, ordered, of_formats)
    _known(ordered, columns, path)
    return _frame(columns)


def _frame(columns: dict[str, Labelled]) -> pd.DataFrame:
    frame = pd.DataFrame({name: one.column() for name, one in columns.items()})
    missing = {name: count for name, one in columns.items() if (count := one.missing())}
    if missing:
        frame.attrs["missing"] = missing
    return frame


def _ordered(frame: pd.DataFrame, ordered: Collection[str], path: Path) -> pd.DataFrame:
    """Categories of a file that has no labels: ordered where they are named."""
    _known(ordered, frame.columns, path)
    for name in ordered:
        kind = frame[name].dtype
        if not isinstance(kind, pd.CategoricalDtype):
            raise ValueError(
                f"{path.name}: `{name}` has no categories whose order could be known; order them "
                "by pd.Categorical(values, categories, ordered=True)"
            )
        frame[name] = frame[name].cat.as_ordered()
    return frame


def _known(ordered: Collection[str], names: Collection[str], path: Path) -> None:
    for name in (ordered,) if isinstance(ordered, str) else ordered:
        if name not in names:
            raise ValueError(f"ordered= names `{name}`, and {path.name} has no such variable")


def _package(name: str, path: Path) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"reading {path.name} takes the package {name}: pip install 'dgmm[files]'"
        ) from error
