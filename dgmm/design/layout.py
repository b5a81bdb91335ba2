"""Where several outcomes stand in a frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dgmm.design.variables import Table

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """Where outcomes stand in a frame: a column each, or (``item``, ``value``) one row each."""

    item: str = ""
    value: str = ""

    def frames(self, data: Any, names: Sequence[str]) -> list[Any]:
        """A frame per outcome, in which it has a column under its name.

        Raises:
            ValueError: one of the two columns is missing, or no row is of an outcome.
        """
        if not self.item:
            return [data] * len(names)
        table = Table.of(data).frame()
        for column in (self.item, self.value):
            if column not in table:
                raise ValueError(
                    f"outcome= says that `{self.item}` names the outcome of a row and "
                    f"`{self.value}` holds its value; the data have no column `{column}`"
                )
        item = table[self.item].astype(str)
        found = [table[item == name] for name in names]
        for name, rows in zip(names, found, strict=True):
            if not len(rows):
                listed = ", ".join(sorted(item.unique())[:5])
                raise ValueError(f"no row has `{self.item}` equal to {name!r}; it has {listed}")
        return [
            rows.rename(columns={self.value: name}) for name, rows in zip(names, found, strict=True)
        ]

    def present(self, data: Any, names: Sequence[str]) -> list[Any | None]:
        """The same, None for outcomes that a frame does not have."""
        table = Table.of(data).frame()
        if not self.item:
            return [data if name in table else None for name in names]
        item = table[self.item].astype(str)
        found = [table[item == name].rename(columns={self.value: name}) for name in names]
        return [rows if len(rows) else None for rows in found]
