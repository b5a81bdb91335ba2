"""Columns that other variables nearly explain: their coefficients are known together only.

    VIF_k = RSS(x_k on the columns of its own variables) / RSS(x_k on all other columns)

is how often the variance of beta_k is larger for the other variables being there. Beside columns of
other variables only, it is the variance inflation factor of Belsley, Kuh and Welsch (1980),
Regression Diagnostics, section 3.2. The own variables are kept out of it, with their powers and the
interactions that they are in: how those share the work depends on the origin of the variables, as
in t and t^2 of calendar years, and the fitted function does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dgmm.design.encoding import Columns
from dgmm.numerics.triangle import triangle

__all__ = ["Collinear", "collinear"]

MOST = 1000.0
"""Inflation of a variance from which on it is worth a word: the standard error is 30 times as
large."""

PARTIAL = 0.3
"""Partial correlation from which on two columns belong together."""

WITHIN = 1e-10
"""Share of a constant outside the span of the columns that is rounding."""


@dataclass(frozen=True)
class Collinear:
    """Some columns that nearly depend on each other, by name."""

    names: tuple[str, ...]
    inflation: float  # the largest of them
    condition: float  # number, of these columns centred and scaled to length one

    @property
    def message(self) -> str:
        """What that means for their coefficients."""
        named = ", ".join(f"`{name}`" for name in self.names)
        return (
            f"collinearity: {named} nearly depend on each other (variance inflation "
            f"{self.inflation:.2g}, condition number {self.condition:.2g}): the data hardly tell "
            "their coefficients apart, which are large with large standard errors. The fitted "
            "values are usable; leave one of them out, or take their mean and differences"
        )


def collinear(columns: Columns, rows: np.ndarray, *, constant: bool = False) -> list[Collinear]:
    """The sets of linearly independent columns that are nearly dependent over ``rows`` (N,) bool.

    constant: the model has a constant (thresholds) that is none of the columns. All is found from
    the triangle of [1 X] = QR, which holds every norm and angle.
    """
    if len(set(filter(None, columns.variables))) < 2:
        return []
    X = columns.matrix if rows.all() else columns.matrix[rows]
    if len(X) <= X.shape[1]:
        return []
    names, variables = columns.names, columns.variables
    added = bool(variables[0])
    if added and constant:
        names, variables = ("", *names), (frozenset(), *variables)
    if added:
        R = triangle(np.column_stack([np.ones(len(X)), X]))
    else:
        R = columns.triangle if X is columns.matrix else triangle(X)
    one, F = R[:, 0] / R[0, 0], R[:, added and not constant :]
    F = F / np.linalg.norm(F, axis=0)
    explained = F @ np.linalg.lstsq(F, one, rcond=None)[0]
    centre = bool(np.linalg.norm(one - explained) < WITHIN)
    about = F - np.outer(one, one @ F) if centre else F
    spread = np.linalg.norm(about, axis=0)
    inverse = np.linalg.inv(np.linalg.qr(F, mode="r"))
    left = 1 / np.linalg.norm(inverse, axis=1)  # of a column beside all others
    inflation = np.zeros(len(spread))
    for k in np.flatnonzero(spread**2 >= MOST * left**2).tolist():
        own = _own(variables, k)
        unit = about[:, own] / spread[own]
        weights = np.linalg.lstsq(unit, about[:, k], rcond=None)[0]
        inflation[k] = float(np.linalg.norm(about[:, k] - unit @ weights) / left[k]) ** 2
    inflated = np.flatnonzero(inflation >= MOST)
    return [
        Collinear(
            tuple(names[k] for k in several),
            float(inflation[several].max()),
            float(np.linalg.cond(about[:, several] / spread[several])),
        )
        for several in _sets(inverse, np.array([bool(v) for v in variables]), inflated)
    ]


def _own(variables: Sequence[frozenset[str]], k: int) -> list[int]:
    """The other columns whose variables column k has too, or that have all of its variables."""
    used = variables[k]
    return [j for j, v in enumerate(variables) if j != k and v and (v <= used or v >= used)]


def _sets(inverse: np.ndarray, varies: np.ndarray, among: np.ndarray) -> list[list[int]]:
    """Some columns, put together where one does much for the explanation of another one.

    varies: which are no constant, (p,) bool. ``among`` are the positions of those to be put.
    """
    scaled = inverse / np.linalg.norm(inverse, axis=1, keepdims=True)
    partial = np.abs(scaled @ scaled.T) - np.eye(len(scaled))
    sets: list[list[int]] = []
    for k in among.tolist():
        most = int((partial[k] * varies).argmax())
        near = {k, most} | set(among[partial[k, among] >= PARTIAL].tolist())
        touched = [one for one in sets if near & set(one)]
        rest = [one for one in sets if not near & set(one)]
        sets = [*rest, sorted(near.union(*touched))]
    return sorted(sets)
