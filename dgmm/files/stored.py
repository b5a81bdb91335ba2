"""Rows that are not in memory, read through DuckDB: parquet files, datasets of Arrow, relations.

Columns are named in SQL by quoted identifiers, and nothing else of a formula, a path or a value is
ever text of a query.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dgmm.runtime.listing import listed

__all__ = ["Stored", "as_series", "is_stored", "open_stored", "quantiles", "quoted"]

ROWS = 131_072
"""Rows of a batch."""

SIZES = ("tinyint", "smallint", "integer", "bigint", "hugeint")
WHOLE = frozenset((*SIZES, *(f"u{one}" for one in SIZES)))
NUMBERS = WHOLE | {"float", "double", "decimal"}
FLOATS = frozenset(("float", "double"))


def quoted(name: str) -> str:
    """The name of a column in SQL."""
    return '"' + name.replace('"', '""') + '"'


def is_stored(data: Any) -> bool:
    """Whether data are files by their path, a dataset of Arrow or a relation of DuckDB."""
    if isinstance(data, str | PathLike):
        return True
    kinds = [(sys.modules.get("pyarrow.dataset"), "Dataset")]
    kinds += [(sys.modules.get("duckdb"), "DuckDBPyRelation")]
    return any(module is not None and isinstance(data, getattr(module, of)) for module, of in kinds)


def open_stored(data: Any) -> Stored:
    """Open what :func:`is_stored` names.

    Raises:
        FileNotFoundError: no such file, or a folder without any.
        ImportError: the extra is not installed.
        ValueError: a file of another kind.
    """
    files = _files(data) if isinstance(data, str | PathLike) else []
    duckdb, dataset = _package("duckdb"), _package("pyarrow.dataset")
    if isinstance(data, duckdb.DuckDBPyRelation):
        return Stored(data, None)
    connection = duckdb.connect()
    if isinstance(data, dataset.Dataset):
        return Stored(connection.from_arrow(data), data, connection)
    parted = any("=" in folder for folder in Path(files[0]).relative_to(_above(data)).parts[:-1])
    rows = connection.read_parquet(files, hive_partitioning=parted)
    return Stored(rows, dataset.dataset(files), connection)


def _above(path: str | PathLike[str]) -> Path:
    """The folder below which names of folders may be values of a column."""
    return Path(path) if Path(path).is_dir() else Path(path).parent


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ImportError(
            f"data that are not in memory take the package {package}: pip install 'dgmm[large]'"
        ) from error


def _files(path: str | PathLike[str]) -> list[str]:
    """The parquet files of a path: one, all of a folder and its folders, or those of a pattern."""
    where = Path(path)
    if where.is_dir():
        found = sorted(map(str, where.rglob("*.parquet")))
    elif where.exists():
        found = [str(where)]
    else:
        found = sorted(map(str, where.parent.glob(where.name)))
    if not found:
        raise FileNotFoundError(
            f"data={str(path)!r} is a path, and there is no parquet file: name a file, a folder of "
            "parquet files or a pattern such as 'visits-*.parquet', or give a data frame"
        )
    for one in found:
        if Path(one).suffix.lower() not in (".parquet", ".pq"):
            raise ValueError(
                f"data= by its path is a parquet file, not {Path(one).name!r}; read others by "
                "dgmm.read()"
            )
    return found


class Faults(NamedTuple):
    """What of a table cannot be used."""

    total: int  # rows
    dropped: int  # rows with a gap in any column that is needed
    gaps: dict[str, int]  # by column, of those that have any
    infinite: dict[str, int]  # values, likewise


@dataclass(frozen=True, eq=False)
class Stored:
    """A table that is read column by column, some rows at a time.

    relation: of DuckDB. arrow: the dataset that knows the levels of dictionaries, if there is one.
    connection: kept open as long as the table.
    """

    relation: Any
    arrow: Any
    connection: Any = None
    known: dict[str, tuple[list[Any], bool]] = field(default_factory=dict)  # levels read before

    @property
    def names(self) -> dict[str, None]:
        """The columns, in their order."""
        return dict.fromkeys(self.relation.columns)

    def type_of(self, name: str) -> str:
        """The type of a column as DuckDB calls it, in small letters, without parameters."""
        return str(self._type(name).id)

    def _type(self, name: str) -> Any:
        return self.relation.types[self.relation.columns.index(name)]

    def kind(self, name: str) -> str:
        """What a column holds: "number", "boolean", "category", or the type of others."""
        kind = self.type_of(name)
        if self.dictionary(name) is not None or kind in ("varchar", "enum"):
            return "category"
        return "number" if kind in NUMBERS else kind

    def dictionary(self, name: str) -> tuple[list[Any], bool] | None:
        """The levels of a dictionary in their order, and whether it is ordered; None of others."""
        if self.type_of(name) == "enum":
            ((_, levels),) = self._type(name).children
            return list(levels), True
        if self.arrow is None:
            return None
        if name in self.known:
            return self.known[name]
        if name not in self.arrow.schema.names:  # a partition, by the names of folders
            return None
        kind = self.arrow.schema.field(name).type
        if not hasattr(kind, "index_type"):
            return None
        found: dict[Any, None] = {}
        few = self.arrow.scanner(columns=[name], batch_size=1, batch_readahead=0).head(1)
        for chunk in few.column(0).chunks:
            found |= dict.fromkeys(chunk.dictionary.to_pylist())
        self.known[name] = list(found), bool(kind.ordered)
        return self.known[name]

    def gap(self, name: str) -> str:
        """The condition that a row has no value, in SQL."""
        column = quoted(name)
        empty = f"{column} IS NULL"
        return f"({empty} OR isnan({column}))" if self.type_of(name) in FLOATS else f"({empty})"

    def complete(self, names: Iterable[str]) -> Stored:
        """The rows that have a value in all of some columns."""
        gaps = [self.gap(name) for name in names]
        if not gaps:
            return self
        kept = self.relation.filter(f"NOT ({' OR '.join(gaps)})")
        return replace(self, relation=kept)

    def faults(self, needed: Sequence[str], finite: Sequence[str]) -> Faults:
        """Count in one query what of some columns cannot be used.

        needed: columns without which a row is left out. finite: columns that may not be infinite.
        """
        every = " OR ".join(map(self.gap, needed)) or "false"
        floats = [name for name in finite if self.type_of(name) in FLOATS]
        wanted = [
            "count(*)",
            f"count(*) FILTER ({every})",
            *(f"count(*) FILTER ({self.gap(name)})" for name in needed),
            *(f"count(*) FILTER (isinf({quoted(name)}))" for name in floats),
        ]
        total, dropped, *counts = self._one(wanted)
        gaps = zip(needed, counts, strict=False)
        infinite = zip(floats, counts[len(needed) :], strict=True)
        return Faults(
            total,
            dropped,
            {name: count for name, count in gaps if count},
            {name: count for name, count in infinite if count},
        )

    def extremes(self, names: Sequence[str]) -> dict[str, tuple[float, float]]:
        """The least and the largest value of columns of numbers."""
        wanted = [f"{which}({quoted(name)})::DOUBLE" for name in names for which in ("min", "max")]
        found = self._one(wanted) if wanted else []
        return dict(zip(names, zip(found[::2], found[1::2], strict=True), strict=True))

    def _one(self, wanted: Sequence[str]) -> Sequence[Any]:
        found: Sequence[Any] = self.relation.aggregate(", ".join(wanted)).fetchall()[0]
        return found

    def levels(self, name: str, most: int) -> list[Any]:
        """The values that occur in a column, in any order.

        Raises:
            ValueError: more than ``most``.
        """
        found = self.relation.project(quoted(name)).distinct().limit(most + 1).fetchall()
        if len(found) > most:
            raise ValueError(
                f"column `{name}` has more than {most:,} levels, such as "
                f"{listed([repr(one) for (one,) in found], 3)}: a date, or an id?"
            )
        return [one for (one,) in found]

    def keys(self, name: str) -> pd.Series:
        """The values that occur in a column, as pandas has them, in any order."""
        found = list(_in_batches(self.relation.project(self._as_key(name)).distinct()))
        return as_series([batch.column(0) for batch in found])

    def _as_key(self, name: str) -> str:
        """A column as it is, the levels of an enumeration as text, in SQL."""
        column = quoted(name)
        return f"CAST({column} AS VARCHAR)" if self.type_of(name) == "enum" else column

    def batches(self, names: Sequence[str], keys: Sequence[str] = ()) -> Iterator[Any]:
        """The columns ``names``, numbers as doubles, and ``keys`` as they are, as Arrow batches."""
        words = {name: "VARCHAR" if self.kind(name) == "category" else "DOUBLE" for name in names}
        own = [f"CAST({quoted(n)} AS {word}) AS {quoted(n)}" for n, word in words.items()]
        as_keys = [f"{self._as_key(name)} AS key{k}" for k, name in enumerate(keys)]
        chosen = self.relation.project(", ".join([*as_keys, *own]))
        yield from _in_batches(chosen)


def _in_batches(relation: Any) -> Any:
    """A reader of Arrow batches; DuckDB before version 2 has another name for it."""
    read = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
    return read(ROWS)


def as_series(columns: Sequence[Any]) -> pd.Series:
    """Arrays of Arrow, one after the other, as pandas has them."""
    return pd.Series(_package("pyarrow").chunked_array(columns).to_pandas())


def quantiles(values: Iterator[np.ndarray], at: Sequence[float]) -> list[float]:
    """Quantiles (R's type 7) of values that come some at a time."""
    duckdb, arrow = _package("duckdb"), _package("pyarrow")
    schema = arrow.schema([("x", arrow.float64())])
    batches = (arrow.record_batch([arrow.array(one)], schema=schema) for one in values)
    connection = duckdb.connect()
    relation = connection.from_arrow(arrow.RecordBatchReader.from_batches(schema, batches))
    levels = ", ".join(repr(float(one)) for one in at)
    ((found,),) = relation.aggregate(f"quantile_cont(x, [{levels}])").fetchall()
    connection.close()
    return list(found)
