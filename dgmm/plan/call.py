"""A call of mixed_model(): its arguments as one frozen record."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

import numpy as np

from dgmm.bayes import Prior
from dgmm.design import beside
from dgmm.estimate import Control
from dgmm.families import Family
from dgmm.files.stored import is_stored
from dgmm.plan.elsewhere import INSTEAD
from dgmm.runtime.gate import is_number
from dgmm.runtime.listing import shortened
from dgmm.runtime.registry import misnamed, suggestion

__all__ = ["Call", "read_control", "read_prior", "read_values"]

COLUMNS = ("weights", "offset")
"""Arguments that are the name of a column or an array with one value per row."""

INDIFFERENT = ("formula", "se", "control", "verbose", *COLUMNS)
"""Arguments that change no estimate, or that a digest of the design or the options stands for."""


DEFAULT = Prior()
"""The priors where none are given."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Call:
    """The arguments of ``mixed_model``, the data apart, as they were given."""

    formula: str
    family: str | Family = "gaussian"
    link: str | None = None
    method: str = "auto"
    likelihood: str = "auto"
    encoder: str = "sites"
    missing: str = "observed"
    restriction: str = "acmv"
    delta: float = 0.0
    se: str | None = "hessian"
    bounds: tuple[float | None, float | None] | None = None
    zi: str | None = None
    oi: str | None = None
    dispersion: str | None = None
    weights: str | np.ndarray | None = None
    offset: str | np.ndarray | None = None
    missing_covariates: str = "drop"
    starts: int | None = None
    seed: int = 0
    device: str = "auto"
    verbose: int = 1
    control: Control = field(default_factory=Control)
    chains: int = 4
    draws: int = 2000
    warmup: int = 500
    prior: Prior = DEFAULT

    def __post_init__(self) -> None:
        """Refuse values of another kind; which of them is right is for others to say."""
        if not isinstance(self.family, str | Family):
            raise TypeError(
                f"family= is a word in quotes or a Family, not {shortened(self.family)}"
            )
        if not is_number(self.delta) or not math.isfinite(self.delta):
            raise ValueError(f"delta= is a finite number, not {shortened(self.delta)}")
        if self.bounds is not None and not _is_pair(self.bounds):
            raise ValueError(
                "bounds= are two numbers, either of them may be None, as in bounds=(0, 1), not "
                f"{shortened(self.bounds)}"
            )

    def parts(self) -> dict[str, str]:
        """The formulas given for parameters of the family, by their argument."""
        given = {"zi": self.zi, "oi": self.oi, "dispersion": self.dispersion}
        return {name: text for name, text in given.items() if text is not None}

    def changed(self, changes: dict[str, Any], data: Any = None) -> Call:
        """The call with some arguments changed, read as ``mixed_model`` reads them beside ``data``.

        Raises:
            TypeError: an argument that mixed_model() does not have.
        """
        known = [one.name for one in fields(self)]
        for name in changes:
            if name not in known:
                raise TypeError(f"mixed_model() has no argument {misnamed(name, known, INSTEAD)}")
        readers: dict[str, Callable[[Any], Any]] = {
            "control": read_control,
            "prior": read_prior,
            **{name: partial(read_values, data=data, what=name) for name in COLUMNS},
        }
        read = {name: readers.get(name, _as_given)(value) for name, value in changes.items()}
        return replace(self, **read)

    def arrays(self) -> tuple[str, ...]:
        """The arguments that are values for the rows of the frame of the fit."""
        return tuple(name for name in COLUMNS if isinstance(getattr(self, name), np.ndarray))

    def words(self) -> dict[str, str]:
        """The arguments that change what is estimated, as text."""
        words = {
            one.name: repr(getattr(self, one.name))
            for one in fields(self)
            if one.name not in INDIFFERENT
        }
        if isinstance(self.family, Family):
            words["family"] += f" {self.family.options()!r}"
        return words

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Call):
            return NotImplemented
        return all(_same(getattr(self, one.name), getattr(other, one.name)) for one in fields(self))

    __hash__ = None  # type: ignore[assignment]  # arrays have no hash


def read_control(control: Control | dict[str, Any] | None) -> Control:
    """The options of a call, whichever way they were given."""
    if isinstance(control, Control):
        return control
    if control is not None and not isinstance(control, dict):
        raise TypeError(f"control is a dgmm.Control or a dict of its options, not {control!r}")
    known = [one.name for one in fields(Control)]
    for name in control or {}:
        if name not in known:
            hint = suggestion(name, known)
            raise ValueError(f"control has no option {name!r}{hint} It has {', '.join(known)}.")
    return Control(**(control or {}))


def read_prior(given: Prior | str | None) -> Prior:
    """The priors of a call: those given, the defaults, or "hoff"."""
    if given is None or given == "hoff":
        return Prior(word=given or "")
    if isinstance(given, str):
        raise ValueError(
            f"prior={given!r} is not available; use prior(beta=, cov=, sigma2=) or 'hoff', unit "
            "information after Hoff (2009)"
        )
    if not isinstance(given, Prior):
        raise TypeError(
            f"prior= is made by dgmm.prior(beta=, cov=, sigma2=), or is 'hoff', not {given!r}"
        )
    return given


def read_values(given: Any, data: Any, what: str) -> str | np.ndarray | None:
    """A column name as it is; values as an array of their own, which nobody changes.

    A pandas Series is put into the order of ``data`` by its index.
    """
    if given is None or isinstance(given, str):
        return given
    if is_stored(data):
        raise ValueError(f"{what}= is the name of a column where data= is not in memory")
    values = beside(data, given, what)
    values.setflags(write=False)
    return values


def _is_pair(bounds: Any) -> bool:
    return (
        isinstance(bounds, tuple | list)
        and len(bounds) == 2
        and all(end is None or is_number(end) for end in bounds)
    )


def _as_given(value: Any) -> Any:
    return value


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        arrays = isinstance(one, np.ndarray) and isinstance(other, np.ndarray)
        return arrays and np.array_equal(one, other, equal_nan=True)
    if isinstance(one, Family) and isinstance(other, Family):
        return type(one) is type(other) and one.options() == other.options()
    return bool(one == other)
