"""Data columns as numpy, whatever frame they come in: numbers, booleans or categories."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from dgmm.design.expressions import unknown_column
from dgmm.design.labels import factorize, label_key, plain_labels
from dgmm.runtime.listing import listed
from dgmm.transforms import Factor

_NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal")
_MIXED = {"mixed-integer": "mixed (text and numbers)", "unknown-array": "structured"}
_DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([ T].*)?")


@dataclass(frozen=True)
class Variable:
    """What is remembered of a column for new data: its kind and, for categories, its levels."""

    name: str
    kind: str  # "number", "boolean" or "category"
    levels: tuple[Any, ...] = ()
    ordered: bool = False  # the order of the levels is that of an ordered category


@dataclass(frozen=True)
class Column:
    """One column as read: float64 (N,) with NaN, or codes (N,) with -1, where missing."""

    variable: Variable
    values: np.ndarray

    @property
    def missing(self) -> np.ndarray:
        """Which rows have no value, (N,) bool."""
        return self.values < 0 if self.variable.kind == "category" else np.isnan(self.values)

    def take(self, rows: np.ndarray | slice) -> Column:
        """Return a copy of the rows given by position, mask or slice."""
        values = self.values[rows]
        return replace(self, values=values.copy() if isinstance(rows, slice) else values)

    def only_used_levels(self) -> Column:
        """Forget the levels no row has."""
        if self.variable.kind != "category":
            return self
        size = len(self.variable.levels)
        used = np.flatnonzero(np.bincount(self.values[self.values >= 0], minlength=size))
        table = np.full(size + 1, -1, dtype=np.int64)
        table[used] = np.arange(len(used))
        levels = tuple(self.variable.levels[k] for k in used)
        return Column(replace(self.variable, levels=levels), table[self.values])

    def value(self) -> np.ndarray | Factor:
        """Return what an expression computes with."""
        if self.variable.kind == "category":
            return Factor(self.values, self.variable.levels, ordered=self.variable.ordered)
        if self.variable.kind == "boolean" and not np.isnan(self.values).any():
            return self.values.astype(bool)
        return self.values

    def sort_key(self) -> np.ndarray:
        """Return numbers that sort the rows: by value, categories by their label as text."""
        if self.variable.kind != "category":
            return self.values
        labels = [str(level) for level in self.variable.levels]
        rank = np.empty(len(labels) + 1)
        rank[np.argsort(np.array(labels, dtype=object), kind="stable")] = np.arange(len(labels))
        rank[-1] = np.nan
        return rank[self.values]


class Table:
    """A data frame of any make, read column by column; a dict of columns is one."""

    def __init__(self, data: Any):
        if isinstance(data, pd.DataFrame | Mapping):
            frame = _frame_of_columns(data) if isinstance(data, Mapping) else data
            self._frame, self._foreign = frame, None
            names: Iterable[Any] = frame.columns
            self.size, self.index = len(frame), frame.index
        else:
            self._foreign = _narwhals(data)
            names, self.size = self._foreign.columns, len(self._foreign)
            self.index = pd.RangeIndex(self.size)
        self.names: dict[str, None] = {name: None for name in names if isinstance(name, str)}

    @classmethod
    def of(cls, data: Any) -> Table:
        """The table of a data frame; one that has been opened stays as it is."""
        return data if isinstance(data, Table) else cls(data)

    def series(self, name: str) -> pd.Series:
        """Return one column as a pandas Series."""
        if name not in self.names:
            raise unknown_column(name, self.names)
        if self._foreign is not None:
            return _to_pandas(self._foreign[name])
        found = self._frame[name]
        if isinstance(found, pd.DataFrame):
            raise ValueError(f"the data have {found.shape[1]} columns named `{name}`")
        if isinstance(found.dtype, pd.ArrowDtype) and _is_dictionary(found.dtype.pyarrow_dtype):
            return _category(found.array.__arrow_array__()).set_axis(found.index)
        return found

    def frame(self) -> pd.DataFrame:
        """Return the whole table as a pandas frame."""
        if self._foreign is None:
            return self._frame
        return pd.DataFrame({name: self.series(name) for name in self.names})


def _frame_of_columns(columns: Mapping[Any, Any]) -> pd.DataFrame:
    """A dict of columns as a frame; one of single values only is one row."""
    plain = {name: _plain_array(values) for name, values in columns.items()}
    single = bool(plain) and all(pd.api.types.is_scalar(values) for values in plain.values())
    try:
        return pd.DataFrame(plain, index=[0] if single else None)
    except ValueError as error:
        shapes = {name: " x ".join(map(str, np.shape(values))) for name, values in plain.items()}
        found = listed(f"`{name}` has {shape or 1}" for name, shape in shapes.items())
        raise ValueError(f"columns in a dict need one value per row each: {found}") from error


def _plain_array(values: Any) -> Any:
    if isinstance(values, list | tuple):
        return _whole(values)
    return values.detach().cpu().numpy() if hasattr(values, "detach") else values


def _whole(values: Sequence[Any]) -> Any:
    """Whole numbers with gaps as such: a float holds them up to 2^53 only."""
    known = [one for one in values if one is not None and one == one]
    if len(known) == len(values) or not all(type(one) is int for one in known):
        return values
    gaps = [one if type(one) is int else None for one in values]
    try:
        return pd.array(gaps, dtype="Int64")
    except OverflowError:
        return pd.Series(gaps, dtype=object)


def _narwhals(data: Any) -> nw.DataFrame[Any]:
    if isinstance(data, str | PathLike):
        raise TypeError(
            f"a data frame is needed here, and {str(data)!r} is a path: read the file by "
            "dgmm.read(). mixed_model() alone fits the rows of files"
        )
    try:
        frame = nw.from_native(data)
    except TypeError as error:
        raise TypeError(
            f"data must be a data frame (pandas, polars, pyarrow, ...) or a dict of columns, "
            f"not {type(data).__name__}"
        ) from error
    return frame.collect() if isinstance(frame, nw.LazyFrame) else frame


def take_rows(data: Any, rows: np.ndarray) -> Any:
    """The rows of a data frame at some positions, as a frame of the same library."""
    if isinstance(data, Mapping):
        data = _frame_of_columns(data)
    return _narwhals(data)[rows.tolist()].to_native()


def _is_dictionary(kind: Any) -> bool:
    """Whether a type of Arrow is a dictionary: indices into values."""
    return hasattr(kind, "index_type")


def _category(values: Any) -> pd.Series:
    """A dictionary of Arrow as the category that pandas makes of it; text where a level is null."""
    try:
        return values.to_pandas()
    except ValueError:
        return pd.Series(values.to_pylist(), dtype=object)


def _to_pandas(series: nw.Series[Any]) -> pd.Series:
    """Convert without pyarrow and without loss: numbers, times as arrays, the rest one by one.

    A dictionary of Arrow becomes the category that pandas reads from it, levels in their order.
    """
    if isinstance(series.dtype, nw.Categorical) and series.implementation.is_pyarrow():
        return _category(series.to_native())
    if series.dtype.is_integer() and series.null_count():
        return _whole_numbers(series)
    if series.dtype.is_numeric() and series.dtype != nw.Int128:
        return pd.Series(np.asarray(series.to_numpy()))
    if isinstance(series.dtype, nw.Datetime | nw.Duration):
        moments = pd.Series(series.to_numpy())
        return moments.dt.tz_localize("UTC") if _has_zone(series.dtype) else moments
    if isinstance(series.dtype, nw.Enum):
        levels = series.dtype.categories
        return pd.Series(pd.Categorical(series.to_list(), categories=levels, ordered=True))
    return pd.Series(series.to_list(), dtype=object)


def _whole_numbers(series: nw.Series[Any]) -> pd.Series:
    """Whole numbers beside missing ones stay whole: subjects may be numbered beyond 2^53."""
    if series.dtype == nw.Int128:
        return pd.Series(series.to_list(), dtype=object)
    values, missing = series.fill_null(0).to_numpy(), series.is_null().to_numpy()
    return pd.Series(pd.arrays.IntegerArray(np.array(values), np.array(missing)))


def _has_zone(dtype: Any) -> bool:
    return isinstance(dtype, nw.Datetime) and dtype.time_zone is not None


def read_column(series: pd.Series, name: str) -> Column:
    """Read a column by what it holds: numbers, booleans, or text and categories."""
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        categories, ordered = series.cat.categories, bool(series.cat.ordered)
        return _categories(name, series.cat.codes.to_numpy(), categories, ordered)
    if pd.api.types.is_bool_dtype(dtype):
        return Column(Variable(name, "boolean"), _floats(series))
    if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype):
        return Column(Variable(name, "number"), _floats(series))
    found = pd.api.types.infer_dtype(series, skipna=True)
    if found in _NUMBERS or (found == "empty" and len(series)):
        return Column(Variable(name, "number"), _floats(series))
    if found == "boolean":
        return Column(Variable(name, "boolean"), _floats(series))
    if found != "string" and not isinstance(dtype, pd.StringDtype):
        raise ValueError(
            f"column `{name}` holds {_MIXED.get(found, found)} values; a formula needs numbers, "
            "booleans, text or categories (turn dates into a number of days or years first)"
        )
    codes, levels = pd.factorize(series, sort=False)
    order = sorted(range(len(levels)), key=lambda k: str(levels[k]))
    rank = np.full(len(levels) + 1, -1)
    rank[order] = np.arange(len(levels))
    return _categories(name, rank[codes], [levels[k] for k in order])


def refuse_dates(series: pd.Series, column: Column) -> None:
    """Refuse text that spells dates, which would get an effect for every day."""
    if isinstance(series.dtype, pd.CategoricalDtype) or column.variable.kind != "category":
        return
    levels = column.variable.levels
    if levels and all(_DATE.fullmatch(str(level)) for level in levels):
        raise ValueError(
            f"column `{column.variable.name}` holds text like {levels[0]!r}: a date? A formula "
            "needs a number of days or years; if every date should have an effect of its own, "
            "make the column a category"
        )


def partly_labelled(variable: Variable) -> str | None:
    """Say that some levels of a category are text and some numbers, as labels leave them."""
    numbers = [level for level in variable.levels if not isinstance(level, str)]
    texts = [level for level in variable.levels if isinstance(level, str)]
    if not numbers or not texts:
        return None
    return (
        f"`{variable.name}` is partly labelled: {listed(map(repr, texts), 5)} beside "
        f"{listed(map(repr, numbers), 5)}; each counts as a category"
    )


def _floats(series: pd.Series) -> np.ndarray:
    if isinstance(series.dtype, np.dtype) and series.dtype.kind in "biuf":
        return series.to_numpy(dtype=np.float64)
    plain = pd.to_numeric(series) if series.dtype == object else series
    return plain.to_numpy(dtype=np.float64, na_value=np.nan)


def _categories(
    name: str, codes: np.ndarray, levels: Iterable[Any], ordered: bool = False
) -> Column:
    variable = Variable(name, "category", plain_labels(levels), ordered)
    return Column(variable, codes.astype(np.int64))


def recall_column(series: pd.Series, known: Variable) -> Column:
    """Read a column of new data as the kind, and with the levels, it had at the fit."""
    column = read_column(series, known.name)
    kind = column.variable.kind
    if known.kind == "category":  # labels are read from the data themselves, not from floats
        exact = column if kind == "category" else _categories(known.name, *factorize(series))
        return _recall_levels(exact, known)
    if kind == "category" or (known.kind == "boolean" and _not_boolean(column.values)):
        if not len(column.values) or column.missing.all():
            return Column(known, np.full(len(column.values), np.nan))
        held = "text or categories" if kind == "category" else "other numbers than 0 and 1"
        raise ValueError(
            f"column `{known.name}` was a {known.kind} at the fit and holds {held} now"
        )
    return Column(known, column.values)


def _not_boolean(values: np.ndarray) -> bool:
    return not np.isin(values[~np.isnan(values)], (0.0, 1.0)).all()


def _recall_levels(column: Column, known: Variable) -> Column:
    column = column.only_used_levels()
    place = {label_key(level): code for code, level in enumerate(known.levels)}
    table = np.array([place.get(label_key(v), -2) for v in column.variable.levels] + [-1])
    unseen = [repr(v) for v, code in zip(column.variable.levels, table, strict=False) if code < -1]
    if unseen:
        raise ValueError(
            f"column `{known.name}` has values that did not occur in the data of the fit: "
            f"{listed(unseen)}; known levels: {listed(known.levels)}"
        )
    return Column(known, table[column.values])
