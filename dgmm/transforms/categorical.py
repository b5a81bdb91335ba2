"""Categories: the `Factor` a text column becomes, `C(g, contr.sum)`, `factor(x)`, contrasts.

Ordered categories get treatment contrasts like all others (R would give polynomials: write
`C(g, contr.poly)` for these).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dgmm.runtime.listing import listed
from dgmm.transforms.stateful import State, Stateful

_KINDS = ("treatment", "sum", "helmert", "poly")
_PLAIN = (str, bool, int, float)


@dataclass(frozen=True)
class Contrast:
    """A coding of L levels by L - 1 columns, by R's name without `contr.`."""

    kind: str = "treatment"
    base: Any = None

    def __call__(self, base: Any = None) -> Contrast:
        """Choose the reference level: contr.treatment(base="placebo")."""
        if self.kind != "treatment":
            raise ValueError(f"contr.{self.kind} has no reference level")
        return Contrast(self.kind, base)

    def coding(self, levels: Sequence[Any]) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the matrix (L, L - 1) and the endings of its column names."""
        size = len(levels)
        if self.kind == "treatment":
            kept = [k for k in range(size) if k != self._reference(levels)]
            return np.eye(size)[:, kept], tuple(str(levels[k]) for k in kept)
        if self.kind == "poly":
            names = (".L", ".Q", ".C", *(f"^{k}" for k in range(4, size)))
            return _orthogonal(size), names[: size - 1]
        endings = tuple(str(k + 1) for k in range(size - 1))
        if self.kind == "sum":
            return np.vstack([np.eye(size - 1), -np.ones((1, size - 1))]), endings
        columns = np.arange(size - 1)
        rows = np.arange(size)[:, None]
        matrix = np.where(rows <= columns, -1.0, 0.0) + (rows == columns + 1) * (columns + 1.0)
        return matrix, endings

    def _reference(self, levels: Sequence[Any]) -> int:
        if self.base is None:
            return 0
        named = [str(level) for level in levels]
        if str(self.base) not in named:
            raise ValueError(f"base={self.base!r} is not among the levels {listed(named)}")
        return named.index(str(self.base))


def _orthogonal(size: int) -> np.ndarray:
    """Return contr.poly: orthonormal polynomials over equally spaced levels, signs as in R."""
    powers = np.vander(np.arange(size) - (size - 1) / 2, size, increasing=True)
    Q, R = np.linalg.qr(powers)
    return (Q * np.sign(np.diag(R)))[:, 1:]


@dataclass(frozen=True)
class Factor:
    """A categorical column: codes (N,), -1 where unknown, into its levels."""

    codes: np.ndarray
    levels: tuple[Any, ...]
    contrast: Contrast = Contrast()
    ordered: bool = False  # the order of the levels means something

    def indicator(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return one 0/1 column per level (N, L) and the endings of their names."""
        return np.eye(len(self.levels))[self.codes], tuple(str(level) for level in self.levels)

    def contrasts(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the contrast columns (N, L - 1) and the endings of their names."""
        matrix, endings = self.contrast.coding(self.levels)
        return matrix[self.codes], endings


def as_factor(x: object) -> Factor:
    """Return x as a Factor; numbers and booleans get their sorted values as levels."""
    if isinstance(x, Factor):
        return x
    values = np.asarray(x)
    if values.ndim != 1 or values.dtype.kind not in "iufb":
        raise ValueError("a category is made of one column")
    if not np.isfinite(values).all():
        bad = np.count_nonzero(~np.isfinite(values))
        raise ValueError(f"{bad} rows are no finite number, so of no category")
    if values.dtype.kind == "f" and (np.abs(values) >= 2**53).any():
        raise ValueError("whole numbers from 2**53 on are not told apart; make the column text")
    levels, codes = np.unique(values, return_inverse=True)
    found = tuple(_short(level.item()) for level in levels)
    return Factor(codes.astype(np.int64), found, ordered=True)


def _short(level: Any) -> Any:
    """The number as it was written: 3 for 3.0, and 0.1 for the nearest number of 32 bits."""
    if not isinstance(level, float) or not np.isfinite(level):
        return level
    if level.is_integer():
        return int(level)
    with np.errstate(over="ignore", under="ignore"):
        single = np.float32(level)
    return float(str(single)) if float(single) == level else level


def _fit(
    x: object, contrasts: Contrast | str | None = None, *, levels: Any = None, base: Any = None
) -> State:
    factor = as_factor(x)
    used = factor.levels if levels is None else _given_levels(levels)
    missing = [str(v) for v in factor.levels if str(v) not in {str(u) for u in used}]
    if missing:
        raise ValueError(f"levels= leaves out {listed(missing)}")
    contrast = _contrast(contrasts, base) if contrasts or base is not None else factor.contrast
    contrast.coding(used)
    ordered = factor.ordered or levels is not None
    return {
        "levels": list(used),
        "contrast": contrast.kind,
        "base": contrast.base,
        "ordered": ordered,
    }


def _given_levels(levels: Any) -> tuple[Any, ...]:
    if not isinstance(levels, tuple) or not all(isinstance(one, _PLAIN) for one in levels):
        raise ValueError("levels= lists the levels in their order, as in levels=('low', 'high')")
    return levels


def _contrast(contrasts: Contrast | str | None, base: Any) -> Contrast:
    if isinstance(contrasts, str):
        contrasts = Contrast(contrasts.removeprefix("contr."))
    if contrasts is None:
        contrasts = Contrast()
    if not isinstance(contrasts, Contrast) or contrasts.kind not in _KINDS:
        raise ValueError(f"contrasts are {', '.join('contr.' + kind for kind in _KINDS)}")
    return contrasts if base is None else contrasts(base)


def _apply(x: object, state: State) -> Factor:
    factor = as_factor(x)
    known = {str(level): code for code, level in enumerate(state["levels"])}
    table = np.array([known.get(str(level), -1) for level in factor.levels] or [-1])
    unseen = [factor.levels[c] for c in np.unique(factor.codes) if table[c] < 0]
    if unseen:
        raise ValueError(
            f"{listed(map(repr, unseen))} did not occur in the data of the fit; "
            f"known levels: {listed(known)}"
        )
    contrast = Contrast(state["contrast"], state["base"])
    ordered = bool(state.get("ordered", False))
    return Factor(table[factor.codes], tuple(state["levels"]), contrast, ordered)


C = Stateful("C", _fit, _apply, by_levels=True)
factor = Stateful("factor", _fit, _apply, by_levels=True)
