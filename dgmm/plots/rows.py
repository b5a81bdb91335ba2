"""The rows that a picture shows: of the frame of a fit, or of one that is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dgmm.design import Column, Design, Table, build_design, covariate_frame, label_key, rebuild
from dgmm.fit import Fit
from dgmm.formula import parse_formula
from dgmm.plan import latent_words, structures
from dgmm.record import check_rows, parameter_information

__all__ = ["Raw", "between", "find_subjects", "raw_of", "read_raw", "theta_word"]


@dataclass(frozen=True, eq=False)
class Raw:
    """Outcomes on the scale of their mean beside the columns of their rows, by subject."""

    frame: pd.DataFrame  # (R,) rows of the model
    y: np.ndarray  # (R,) missing where not seen
    keys: np.ndarray  # (R,) of the subjects
    group: str
    numbers: tuple[str, ...]  # columns that may be a time, the likeliest first

    def course(self, x: str | None, asked: str) -> str:
        """The horizontal axis: the column asked for, else the first number within subjects.

        Raises:
            ValueError: no such column of numbers; nothing that varies within subjects.
        """
        if x is not None:
            if x not in self.frame.columns:
                raise ValueError(f"x={x!r} of {asked} is no column of the data")
            if not pd.api.types.is_numeric_dtype(self.frame[x]):
                raise ValueError(f"x={x!r} of {asked} is no column of numbers, such as a time")
            return x
        for name in self.numbers:
            if name in self.frame.columns and self._varies(name):
                return name
        raise ValueError(
            f"{asked} needs a number that varies within `{self.group}`, and the formula has none: "
            "name a column of the data, such as x='time'"
        )

    def _varies(self, name: str) -> bool:
        known = self.frame[name].groupby(self.keys)
        return bool((known.max() > known.min()).any())

    def of(self, key: str) -> np.ndarray:
        """The rows of a subject, by position."""
        return np.flatnonzero(self.keys == key)


def read_raw(formula: str, data: Any) -> tuple[Raw, Design]:
    """The outcomes of a frame as a formula reads them, before anything is fitted."""
    parsed = parse_formula(formula, latent_words=latent_words(), structures=structures())
    design = build_design(parsed, data)
    return _of_design(design, Table(data).frame()), design


def raw_of(fit: Fit, data: Any, asked: str) -> Raw:
    """The outcomes of a frame as a fit reads them; by default those of the fit.

    Raises:
        ValueError: no frame, of a fit from a file with several grouping factors.
    """
    if data is not None:
        frame = Table(data).frame()
        return _of_design(rebuild(fit.memory.spec, frame, outcome=True), frame)
    check_rows(fit, asked)
    panel, memory = fit.estimate.panel, fit.memory
    subject = panel.subject.numpy()
    if memory.frame is not None:
        frame = Table(memory.frame).frame().iloc[memory.rows].reset_index(drop=True)
    elif panel.several:
        raise ValueError(
            f"{asked} needs data=: this fit was read from a file, and files do not hold the frame"
        )
    else:
        frame = covariate_frame(memory.covariates).assign(**{memory.groups[0]: panel.ids[subject]})
    seen = panel.observed.numpy()
    y = np.where(seen, fit.estimate.model.family.response(panel.rows.data).numpy(), np.nan)
    keys = np.array([label_key(one) for one in panel.ids.tolist()], dtype=object)[subject]
    return Raw(frame, y, keys, memory.groups[0], _numbers(memory.spec.time_name, memory.covariates))


def _of_design(design: Design, frame: pd.DataFrame) -> Raw:
    grouping = design.latents[0].grouping
    keys = np.array([label_key(one) for one in grouping.labels.tolist()], dtype=object)
    return Raw(
        frame.iloc[design.rows].reset_index(drop=True),
        design.y / design.trials,
        keys,
        grouping.name,
        _numbers(design.time_name, design.covariates),
    )


def _numbers(time: str | None, covariates: dict[str, Column]) -> tuple[str, ...]:
    """The time, then the other numbers, those of two values last."""
    found = [name for name, one in covariates.items() if one.variable.kind == "number"]
    found.sort(key=lambda name: len(np.unique(covariates[name].values)) <= 2)
    return tuple(dict.fromkeys([*([time] if time else []), *found]))


def between(
    fit: Fit, name: str, seen: np.ndarray, low: float, high: float, points: int
) -> np.ndarray:
    """Values of the horizontal axis from ``low`` to ``high``, (G,).

    Whole numbers of a path that is seen at whole numbers: it may know no others.
    """
    serial = fit.estimate.model.serial and name == fit.memory.spec.time_name
    if serial and bool((seen[np.isfinite(seen)] % 1 == 0).all()):
        return np.arange(low, high + 1)
    return np.linspace(low, high, points)


def theta_word(fit: Fit) -> str:
    """Whether intervals have the error of theta: not those of a fit without standard errors."""
    return "held" if parameter_information(fit) is None else "estimated"


def find_subjects(raw: Raw, subjects: Sequence[Any], asked: str) -> list[str]:
    """The keys of some ids.

    Raises:
        ValueError: an id that is not in the data.
    """
    known = set(raw.keys)
    for one in subjects:
        if label_key(one) not in known:
            raise ValueError(f"{asked}: subject {one!r} is neither in the fit nor in data=")
    return [label_key(one) for one in subjects]
