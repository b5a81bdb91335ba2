"""Columns of codes with labels, and of values that stand for missing ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

import pandas as pd

__all__ = ["Labelled"]

Code = Hashable


@dataclass(frozen=True)
class Labelled:
    """A column as it is in a file.

    values: codes; of missing values a code too where the file says why they are missing.
    labels: of codes, in any order.
    is_missing: whether a code stands for a missing value.
    ordered: whether its categories have an order.
    """

    values: pd.Series
    labels: Mapping[Code, str] = field(default_factory=dict)
    is_missing: Callable[[Code], bool] = lambda _: False
    ordered: bool = False

    def missing(self) -> dict[str, int]:
        """How often every code of a missing value occurs, by its label or else the code itself."""
        count = Counter(self.labels.get(code, _text(code)) for code in self.values[self._lost()])
        return dict(sorted(count.items()))

    def column(self) -> pd.Series:
        """Categories in the order of the codes where every value has a label; else the values."""
        lost = self._lost()
        values = self.values.mask(lost)
        if values.dtype == object and lost.any():  # tags stood among numbers
            values = values.astype(float)
        known = {code: text for code, text in self.labels.items() if not self.is_missing(code)}
        seen = set(values.dropna())
        if not known or not seen <= set(known):
            return values
        codes = sorted(known)  # type: ignore[type-var]
        names = _distinct([(code, known[code]) for code in codes])
        found = pd.Categorical(
            values.map(dict(zip(codes, names, strict=True))), names, self.ordered
        )
        return pd.Series(found, index=values.index, name=values.name)

    def _lost(self) -> pd.Series:
        return self.values.map(self.is_missing, na_action="ignore").eq(True)


def _distinct(pairs: list[tuple[Code, str]]) -> list[str]:
    """Labels, with their codes where two have one text."""
    count = Counter(text for _, text in pairs)
    return [text if count[text] == 1 else f"{text} [{_text(code)}]" for code, text in pairs]


def _text(code: Code) -> str:
    return f"{code:g}" if isinstance(code, (int, float)) else f".{code}"
