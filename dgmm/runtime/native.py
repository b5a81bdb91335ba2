"""Tables in the kind of frame that a user has given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

__all__ = ["as_given", "with_numbers"]


def as_given(table: pd.DataFrame, frame: Any) -> Any:
    """A table in the library of a frame; pandas for dicts and what is no frame in memory."""
    known = nw.from_native(frame, pass_through=True)
    if not isinstance(known, nw.DataFrame | nw.LazyFrame):
        return table
    library = known.implementation
    if library.is_pandas() or library.is_duckdb():
        return table
    columns = {
        str(name): table[name].astype(object).where(table[name].notna(), None).to_list()
        for name in table
    }
    return nw.from_dict(columns, backend=library).to_native()


def with_numbers(frame: Any, columns: Mapping[str, np.ndarray]) -> Any:
    """A frame of any library with further columns of numbers."""
    if isinstance(frame, pd.DataFrame):
        return frame.assign(**columns)
    whole = nw.from_native(frame, eager_only=True)
    series = [
        nw.new_series(name, values.tolist(), nw.Float64, backend=whole.implementation)
        for name, values in columns.items()
    ]
    return whole.with_columns(*series).to_native()
