"""Linear terms to named matrix columns, coded as R's model.matrix codes them.

A factor gets contrasts when the term without it is already in the model, else one column per
level; without an intercept the first factor gets one column per level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product

import numpy as np

from dgmm.design.expressions import Evaluator, ExpressionError, names_of
from dgmm.formula import linear_terms
from dgmm.numerics.triangle import ROWS
from dgmm.transforms import Factor

Atom = tuple[np.ndarray, tuple[str, ...]]  # columns (N, k) and their names


@dataclass(frozen=True)
class Columns:
    """A design matrix with the names of its columns and the data columns behind each."""

    matrix: np.ndarray  # (N, p) float64
    names: tuple[str, ...]
    variables: tuple[frozenset[str], ...]
    terms: tuple[str, ...]  # (p,) the term each column belongs to, as `a:b`
    categories: tuple[str, ...] = ()  # the expressions among them that are categories

    def select(self, names: Sequence[str]) -> Columns:
        """Return the columns of these names, in this order."""
        if tuple(names) == self.names:
            return self
        places = [self.names.index(name) for name in names]
        return Columns(
            np.ascontiguousarray(self.matrix[:, places]),
            tuple(names),
            tuple(self.variables[place] for place in places),
            tuple(self.terms[place] for place in places),
            self.categories,
        )


@dataclass(frozen=True)
class Terms:
    """The expanded terms of a sum: each a tuple of expressions, and whether it has a 1."""

    intercept: bool
    terms: tuple[tuple[str, ...], ...]

    @property
    def factors(self) -> tuple[str, ...]:
        """The expressions in order of first appearance."""
        return tuple(dict.fromkeys(factor for term in self.terms for factor in term))


def expand(text: str) -> Terms:
    """Expand `1 + a * b` to its terms, factors within a term in order of first appearance."""
    found = [tuple(factor.expr for factor in term.factors) for term in linear_terms(text)]
    intercept = ("1",) in found
    rest = [term for term in found if term not in (("1",), ("0",))]
    order = {name: k for k, name in enumerate(dict.fromkeys(f for term in rest for f in term))}
    for term in rest:
        if any(factor.isdigit() for factor in term):
            raise ExpressionError(f"`{':'.join(term)}`: a number cannot multiply a term; use I()")
    return Terms(intercept, tuple(tuple(sorted(term, key=order.__getitem__)) for term in rest))


def encode(text: str, evaluator: Evaluator, size: int, *, network: bool = False) -> Columns:
    """Build the columns of a sum; a network's inputs are coded beside an intercept, without it."""
    terms = expand(text)
    intercept = terms.intercept or network
    values = {factor: _value(factor, evaluator, size) for factor in terms.factors}
    full = _first_factor(terms, values) if not intercept else None
    columns = [np.ones((size, 1))] if terms.intercept else []
    names = ["(Intercept)"] if terms.intercept else []
    variables: list[frozenset[str]] = [frozenset()] if terms.intercept else []
    owners = list(names)
    for place, term in enumerate(terms.terms):
        earlier = [set(other) for other in terms.terms[:place]]
        atoms = []
        for factor in term:
            contrasts = (place, factor) != full and _has_margin(factor, term, earlier)
            atoms.append(_atom(factor, values[factor], contrasts))
        matrix, labels = _products(atoms, size)
        used = frozenset(n for factor in term for n in names_of(factor, evaluator.columns))
        columns.append(matrix)
        names += labels
        variables += [used] * len(labels)
        owners += [":".join(term)] * len(labels)
    matrix = _side_by_side(columns, size)
    categories = tuple(factor for factor, one in values.items() if isinstance(one, Factor))
    return Columns(matrix, tuple(names), tuple(variables), tuple(owners), categories)


def _side_by_side(columns: Sequence[np.ndarray], size: int) -> np.ndarray:
    """The blocks (N, k) as one matrix (N, p), some rows at a time: strided writes stay in cache."""
    matrix = np.empty((size, sum(block.shape[1] for block in columns)))
    if columns:
        for first in range(0, size, ROWS):
            at = slice(first, first + ROWS)
            np.concatenate([block[at] for block in columns], axis=1, out=matrix[at])
    return matrix


def single_levels(text: str, evaluator: Evaluator) -> list[str]:
    """Return the factors of a sum that have one level only, hence no contrast."""
    values = {factor: evaluator.value(factor) for factor in expand(text).factors}
    return [f for f, v in values.items() if isinstance(v, Factor) and len(v.levels) == 1]


def _value(factor: str, evaluator: Evaluator, size: int) -> np.ndarray | Factor:
    value = evaluator.value(factor)
    if isinstance(value, Factor):
        return value
    array = np.asarray(value)
    if array.shape[:1] != (size,) or array.ndim > 2:
        raise ExpressionError(f"`{factor}` is not a column: it does not vary with the rows")
    if array.dtype == bool:
        return Factor(array.astype(np.int64), (False, True))
    if array.dtype.kind not in "fiu":
        raise ExpressionError(f"`{factor}` is neither a number nor a category")
    finite = np.isfinite(array)
    if not finite.all():
        bad = ~finite.reshape(size, -1).all(axis=1)
        kind = "infinite" if np.isinf(array).any() else "not a number"
        raise ExpressionError(
            f"`{factor}` is {kind} in {bad.sum()} of {size} rows whose columns are all present; "
            "look at the range of the column it is made from"
        )
    return array


def _first_factor(terms: Terms, values: dict[str, np.ndarray | Factor]) -> tuple[int, str] | None:
    for place, term in enumerate(terms.terms):
        for factor in term:
            if isinstance(values[factor], Factor):
                return place, factor
    return None


def _has_margin(factor: str, term: tuple[str, ...], earlier: Sequence[set[str]]) -> bool:
    rest = set(term) - {factor}
    return not rest or any(rest <= other for other in earlier)


def _atom(name: str, value: np.ndarray | Factor, contrasts: bool) -> Atom:
    if isinstance(value, Factor):
        if contrasts and len(value.levels) == 1:
            return np.empty((len(value.codes), 0)), ()
        matrix, endings = value.contrasts() if contrasts else value.indicator()
        return matrix, tuple(name + ending for ending in endings)
    if value.ndim == 1 or value.shape[1] == 1:
        return value.reshape(len(value), 1), (name,)
    return value, tuple(f"{name}{k + 1}" for k in range(value.shape[1]))


def _products(atoms: Sequence[Atom], size: int) -> Atom:
    """Return all products of one column per atom, the first atom running fastest as in R."""
    if len(atoms) == 1:
        return atoms[0]
    columns, names = [], []
    for places in product(*(range(len(labels)) for _, labels in reversed(atoms))):
        chosen = list(zip(atoms, reversed(places), strict=True))
        columns.append(reduce(np.multiply, [matrix[:, k] for (matrix, _), k in chosen]))
        names.append(":".join(labels[k] for (_, labels), k in chosen))
    return np.column_stack(columns) if columns else np.empty((size, 0)), tuple(names)
