"""Data frames that R has saved by saveRDS(), read by rdata."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dgmm.files.labelled import Labelled

__all__ = ["read_r"]


def read_r(package: Any, path: Path, ordered: Collection[str]) -> dict[str, Labelled]:
    """The columns of a data frame by name; ``package`` is rdata."""
    makers = {**package.conversion.DEFAULT_CLASS_MAP, **_MAKERS}
    frame = package.read_rds(path, constructor_dict=makers)
    if not isinstance(frame, _Frame):
        raise ValueError(
            f"{path.name} holds no data frame; in R, write saveRDS(as.data.frame(x), file)"
        )
    found = {}
    for name, column in frame.items():
        one = column if isinstance(column, Labelled) else Labelled(_plain(name, column, path))
        found[name] = replace(one, ordered=one.ordered or name in ordered)
    return found


class _Frame(dict[str, Any]):
    """The columns of a data frame."""


def _plain(name: str, column: Any, path: Path) -> pd.Series:
    if getattr(column, "ndim", 1) != 1:
        raise ValueError(
            f"{path.name}: the column `{name}` is a matrix; in R, write its columns into the frame"
        )
    values = pd.Series(column)
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values
    if pd.api.types.is_extension_array_dtype(values.dtype):  # R's NA has no place in those of numpy
        if pd.api.types.is_string_dtype(values.dtype):
            return pd.Series(values.to_numpy(dtype=object, na_value=np.nan))
        return values if values.hasnans else values.astype(values.dtype.numpy_dtype)
    return values


def _labelled(values: Any, attributes: Mapping[str, Any]) -> Labelled:
    """A column of haven, a code each, with the labels of codes."""
    labels = attributes.get("labels")
    known = {} if labels is None else dict(zip(labels.values.tolist(), _names(labels), strict=True))
    return Labelled(pd.Series(np.asarray(values)), known)


def _names(labels: Any) -> list[str]:
    """The names of a vector."""
    (names,) = (coordinate.values for coordinate in labels.coords.values())
    return [str(name) for name in names]


def _moment(unit: str) -> Any:
    def made(values: Any, attributes: Mapping[str, Any]) -> pd.Series:
        return pd.Series(pd.to_datetime(np.asarray(values, dtype=float), unit=unit))

    return made


_MAKERS: dict[str, Any] = {
    "data.frame": lambda columns, attributes: _Frame(columns),
    "haven_labelled": _labelled,
    "haven_labelled_spss": _labelled,
    "Date": _moment("D"),
    "POSIXct": _moment("s"),
    "POSIXt": _moment("s"),
}
