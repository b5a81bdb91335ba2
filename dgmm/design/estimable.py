"""Columns that the outcomes say nothing about, and the rows that need them.

    x_k = sum_j w_j x_j   in every row with an outcome

A column k that is such a combination of earlier ones is left out. beta_k is not known then: a row
in which the equation fails has no estimate, whatever coding its factors have; these are the rows
outside of the row space of the design. Searle (1971), Linear Models, section 5.4.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dgmm.design.encoding import Columns
from dgmm.numerics.triangle import triangle
from dgmm.runtime.listing import listed

__all__ = ["MEAN", "Alias", "Departures", "aliases", "constants", "dependent_columns"]

INTERCEPT = "(Intercept)"

DEPENDENT = 1e-7
"""Share of a column that earlier ones do not explain, below which it is a combination of them."""

ROUNDING = 1e-13
"""Share of a column's norm that may be rounding: 1e9 beside a spread of one is far above it."""

TOLERANCE = 1e-5
"""Largest departure from an equation that is rounding, as a share of the column's own spread."""

MEAN, RANDOM = ("fixed", "network"), ("latent", "basis")
"""First words of the blocks of mu1 and of random parts."""


@dataclass(frozen=True)
class Alias:
    """The equation of one column left out: its name and term, weights of others, what is rounding.

    A column that is zero wherever an outcome was seen has no weights.
    """

    name: str
    term: str
    weights: dict[str, float]
    limit: float

    @property
    def reason(self) -> str:
        """Why the column was left out."""
        if not self.weights:
            return "always zero"
        constant = list(self.weights) == [INTERCEPT]
        return "constant" if constant else f"a combination of {listed(self.weights)}"


@dataclass(frozen=True)
class Departures:
    """x_k - sum_j w_j x_j of some rows, for every column left out of a block."""

    blocks: tuple[str, ...]  # (D,)
    equations: tuple[Alias, ...]  # (D,)
    values: np.ndarray  # (N, D)

    @classmethod
    def none(cls, size: int) -> Departures:
        """Those of ``size`` rows that need no column that was left out."""
        return cls((), (), np.empty((size, 0)))

    @classmethod
    def of(
        cls, blocks: Mapping[str, Columns], equations: Mapping[str, Sequence[Alias]], size: int
    ) -> Departures:
        """Those of ``size`` rows, from the blocks as they were before a column was left out."""
        pairs = [(key, one) for key, several in equations.items() for one in several]
        found = [_departure(blocks[key], one) for key, one in pairs]
        if not found:
            return cls.none(size)
        values = np.stack(found, axis=1)
        return cls(tuple(key for key, _ in pairs), tuple(one for _, one in pairs), values)

    def of_mean(self) -> Departures:
        """Those of mu1."""
        return self._at(np.flatnonzero([key.split()[0] in MEAN for key in self.blocks]))

    def without_random(self) -> Departures:
        """Those of mu1, zi= and dispersion=."""
        return self._at(np.flatnonzero([key.split()[0] not in RANDOM for key in self.blocks]))

    def of_block(self, key: str) -> Departures:
        """Those of one block."""
        return self._at(np.flatnonzero([one == key for one in self.blocks]))

    def of_term(self, term: str, names: Collection[str]) -> Departures:
        """Those whose equations hold a column of one term, ``names`` those that were kept."""
        owns = [
            one.term == term or not set(names).isdisjoint(one.weights) for one in self.equations
        ]
        return self._at(np.flatnonzero(owns))

    def _at(self, at: np.ndarray) -> Departures:
        return Departures(
            tuple(self.blocks[d] for d in at),
            tuple(self.equations[d] for d in at),
            self.values[:, at],
        )

    @property
    def limits(self) -> np.ndarray:
        """The largest departure that is rounding, (D,)."""
        return np.array([one.limit for one in self.equations])

    @property
    def outside(self) -> np.ndarray:
        """Where a departure is more than rounding, (N, D) bool."""
        return np.abs(self.values) > self.limits

    @property
    def estimable(self) -> np.ndarray:
        """Which rows need no column that was left out, (N,) bool."""
        return np.logical_not(self.outside.any(axis=1))

    @property
    def needed(self) -> list[bool]:
        """Which of the columns left out some row needs, (D,)."""
        return [bool(self.outside[:, d].any()) for d in range(len(self.equations))]

    @property
    def reason(self) -> str:
        """A sentence about the columns that some row needs; empty when none does."""
        needed = [
            (key.split()[0] == "basis", f"`{one.name}`")
            for key, one, need in zip(self.blocks, self.equations, self.needed, strict=True)
            if need
        ]
        effects = listed(dict.fromkeys(name for basis, name in needed if not basis))
        found = [f"this needs the effect of {effects}, of which the outcomes say nothing"]
        curves = "the curves of a network are known at the values seen in the fit, not between them"
        found = found * bool(effects) + [curves] * any(basis for basis, _ in needed)
        return "; ".join(found)

    @property
    def message(self) -> str:
        """Which rows have no estimate, and why; empty when all have one."""
        rows = f"{np.count_nonzero(~self.estimable)} of {len(self.values)} rows"
        return self.reason and f"not estimable in {rows}: {self.reason}"


def aliases(columns: Columns, observed: np.ndarray) -> tuple[Alias, ...]:
    """The equations of the columns of a block over the rows ``observed`` (N,) bool."""
    whole = bool(observed.all())
    seen, found = columns.matrix if whole else columns.matrix[observed], []
    R = columns.triangle if whole and columns.names[:1] == (INTERCEPT,) else None
    for name, weights in dependent_columns(seen, columns.names, R).items():
        found.append(_alias(columns, columns.names.index(name), weights))
    return tuple(found)


def constants(columns: Columns, observed: np.ndarray) -> tuple[Alias, ...]:
    """The equations x_k = c of the inputs of a network that do not vary over some rows."""
    seen = columns.matrix[observed]
    still = np.flatnonzero((seen == seen[0]).all(axis=0))
    return tuple(_alias(columns, int(k), {INTERCEPT: float(seen[0, k])}) for k in still)


def _alias(columns: Columns, k: int, weights: dict[str, float]) -> Alias:
    x = columns.matrix[:, k]
    rounding = 10 * ROUNDING * float(np.sqrt(np.square(x).mean()))
    limit = TOLERANCE * float(x.std()) + rounding
    return Alias(columns.names[k], columns.terms[k], weights, limit if weights else 0.0)


def _departure(columns: Columns, one: Alias) -> np.ndarray:
    value = columns.matrix[:, columns.names.index(one.name)]
    for name, weight in one.weights.items():
        known = name != INTERCEPT
        value = value - weight * (columns.matrix[:, columns.names.index(name)] if known else 1.0)
    return value


def dependent_columns(
    matrix: np.ndarray, names: tuple[str, ...], R: np.ndarray | None = None
) -> dict[str, dict[str, float]]:
    """Find columns (N, p) that are combinations of earlier ones: {name: {earlier name: weight}}.

    A column is dependent when its residual on the earlier kept ones is below DEPENDENT of its norm
    about its mean, which the origin of the variable does not enter, or below ROUNDING of its norm.
    The triangle of [1 X] = QR holds all norms and angles, so the search is p x p.

    R: that of X, where it is known.
    """
    first = names[:1] != (INTERCEPT,)
    if first or R is None:
        R = triangle(np.column_stack([np.ones(len(matrix)), matrix]) if first else matrix)
    norms = np.linalg.norm(R, axis=0)
    R = R / np.where(norms > 0, norms, 1.0)
    spread = np.linalg.norm(R[1:], axis=0)  # about the mean
    spread[0] = 1.0
    R, spread, norms = R[:, first:], spread[first:], norms[first:]
    kept: list[int] = []
    dependent: dict[str, dict[str, float]] = {}
    basis = np.empty((R.shape[0], 0))
    for k, name in enumerate(names):
        residual = R[:, k] - basis @ (basis.T @ R[:, k])
        residual -= basis @ (basis.T @ residual)
        length = np.linalg.norm(residual)
        if norms[k] > 0 and length >= max(DEPENDENT * spread[k], ROUNDING):
            kept.append(k)
            basis = np.column_stack([basis, residual / length])
            continue
        weights = _weights(R, spread, kept, k, centred=not first) if norms[k] > 0 else {}
        dependent[name] = {names[j]: w * norms[k] / norms[j] for j, w in weights.items()}
    return dependent


def _weights(
    R: np.ndarray, spread: np.ndarray, kept: list[int], k: int, *, centred: bool
) -> dict[int, float]:
    """The weights of kept columns in column k, all of length 1; those that are rounding left out.

    Beside an intercept (column 0) they are found about the means, where an origin far from the
    values does no harm, and the intercept takes what is left.
    """
    others = [j for j in kept if j > 0] if centred else kept
    rows = R[1:] if centred else R
    unit = np.where(spread > ROUNDING, spread, 1.0) if centred else np.ones(len(spread))
    solved = np.linalg.lstsq(rows[:, others] / unit[others], rows[:, k], rcond=None)[0]
    size = max(float(np.linalg.norm(rows[:, k])), ROUNDING)
    found = {
        j: float(u / unit[j])
        for j, u in zip(others, solved, strict=True)
        if abs(u) > 1e-6 * size and size > ROUNDING
    }
    if centred:
        rest = float(R[0, k] - sum(w * R[0, j] for j, w in found.items())) * np.sign(R[0, 0])
        if abs(rest) > max(1e-6 * size, 100 * ROUNDING):
            found = {0: rest, **found}
    return found
