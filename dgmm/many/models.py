"""The models of a call of fit_many(): what each is called, and its own call and rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from dgmm.design import Table, factorize, label_key, take_rows
from dgmm.fit import Fit, fit_model
from dgmm.formula import name_text
from dgmm.plan import Call
from dgmm.runtime.listing import listed

__all__ = ["Models", "models_of"]

DOT = re.compile(r"(?<![\w.`])\.(?![\w.`])")
"""A dot that stands for all other columns."""


@dataclass(frozen=True, eq=False)
class Models:
    """The models by label, those of ``by`` a part of the rows each, else an outcome each."""

    call: Call  # the formula as it was given
    data: Any
    name: str  # of the labels: the column of by=, or "outcome"
    labels: np.ndarray  # (M,) plain labels
    part: np.ndarray | None  # (N,) the model of every row of the frame, -1 for none

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def places(self) -> dict[str, int]:
        """The number of every label."""
        return {label_key(label): at for at, label in enumerate(self.labels.tolist())}

    def at(self, label: Any) -> int:
        """The number of a label.

        Raises:
            KeyError: there is no such model.
        """
        found = self.places.get(label_key(label))
        if found is None:
            raise KeyError(
                f"no model is called {label!r}; they are {listed(map(repr, self.labels.tolist()))}"
            )
        return found

    def formula(self, at: int) -> str:
        """The formula of a model."""
        if self.part is not None:
            return self.call.formula
        return f"{name_text(str(self.labels[at]))} {self.call.formula.strip()}"

    def fit(self, at: int) -> Fit:
        """The fit of one model alone, as :func:`dgmm.mixed_model` makes it."""
        call = replace(self.call, formula=self.formula(at), verbose=0)
        if self.part is None:
            return fit_model(call, self.data)
        rows = np.flatnonzero(self.part == at)
        own = {name: getattr(call, name)[rows] for name in call.arrays()}
        return fit_model(replace(call, **own), take_rows(self.data, rows))


def models_of(call: Call, data: Any, by: str | None, outcomes: Sequence[str] | None) -> Models:
    """The models of a call, checked as far as no formula is needed.

    Raises:
        ValueError: neither or both of by= and outcomes=; names that are no columns.
    """
    if (by is None) == (outcomes is None):
        raise ValueError(
            "fit_many() needs by=, the column whose levels have a model each, or outcomes=, the "
            "columns that are an outcome each; give one of them"
        )
    table = Table.of(data)
    left = call.formula.partition("~")[0].strip()
    if by is not None:
        codes, labels = factorize(table.series(by))
        if not len(labels):
            raise ValueError(f"the column `{by}` of by= is missing in every row")
        return Models(call, _plain(data), by, labels, codes)
    assert outcomes is not None
    names = list(outcomes)
    if left:
        raise ValueError(
            f"with outcomes= the left side of the formula is left open, '~ x + (1 | id)'; it "
            f"holds {left!r}"
        )
    if DOT.search(call.formula):
        raise ValueError(
            "with outcomes= a `.` would stand for the other outcomes too: write the terms out"
        )
    if not names or len(set(names)) < len(names):
        raise ValueError("outcomes= are names of columns, each once, and at least one")
    for name in names:
        if name not in table.names:
            table.series(name)  # which says what there is instead
    labels = np.empty(len(names), dtype=object)
    labels[:] = names
    return Models(call, _plain(data), "outcome", labels, None)


def _plain(data: Any) -> Any:
    """The frame; of a dict of columns the frame they make."""
    return Table.of(data).frame() if isinstance(data, Mapping) else data
