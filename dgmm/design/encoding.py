"""Linear terms to named matrix columns, coded as R's model.matrix codes them.

A factor gets contrasts when the term without it is already in the model, else one column per
level; without an intercept the first factor gets one column per level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import product

import numpy as np

from dgmm.design.expressions import Evaluator, ExpressionError, names_of
from dgmm.formula import Terms, linear_terms, plain_name
from dgmm.numerics.triangle import ROWS, triangle
from dgmm.runtime.listing import listed
from dgmm.transforms import Contrast, Factor

_FEW = 1_000
_MOST_CELLS = 2**28
"""Columns that are always built, and numbers in a matrix of more: 2 GiB of them."""

Atom = tuple[np.ndarray, tuple[str, ...]]  # columns (N, k) and their names


@dataclass(frozen=True)
class Columns:
    """A design matrix with the names of its columns and the data columns behind each."""

    matrix: np.ndarray  # (N, p) float64
    names: tuple[str, ...]
    variables: tuple[frozenset[str], ...]
    terms: tuple[str, ...]  # (p,) the term each column belongs to, as `a:b`
    categories: tuple[str, ...] = ()  # the expressions among them that are categories

    @cached_property
    def triangle(self) -> np.ndarray:
        """R (p, p) of the matrix = QR, of fewer rows than columns (N, p)."""
        return triangle(self.matrix)

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


def encode(text: str, evaluator: Evaluator, size: int, *, network: bool = False) -> Columns:
    """Build the columns of a sum; a network's inputs are coded beside an intercept, without it."""
    terms = linear_terms(text)
    intercept = terms.intercept or network
    values = {factor: _value(factor, evaluator, size) for factor in terms.factors}
    full = _first_factor(terms, values) if not intercept else None
    if evaluator.learning:
        _check_size(terms, values, size)
    columns = [np.ones((size, 1))] if terms.intercept else []
    names = ["(Intercept)"] if terms.intercept else []
    variables: list[frozenset[str]] = [frozenset()] if terms.intercept else []
    owners = list(names)
    for place, term in enumerate(terms.terms):
        earlier = [set(other) for other in terms.terms[:place]]
        atoms = []
        for factor in term:
            contrasts = (place, factor) != full and _has_margin(factor, term, earlier)
            atoms.append(_atom(_label(factor), values[factor], contrasts))
        matrix, labels = _products(atoms, size)
        used = frozenset(n for factor in term for n in names_of(factor, evaluator.columns))
        columns.append(matrix)
        names += labels
        variables += [used] * len(labels)
        owners += [":".join(map(_label, term))] * len(labels)
    _check_names(names, owners)
    matrix = _side_by_side(columns, size)
    categories = tuple(factor for factor, one in values.items() if isinstance(one, Factor))
    return Columns(matrix, tuple(names), tuple(variables), tuple(owners), categories)


def _check_size(terms: Terms, values: dict[str, np.ndarray | Factor], size: int) -> None:
    """Refuse columns that no data could tell apart, or no memory hold, before they are built."""
    width = {factor: _width(value) for factor, value in values.items()}
    widths = [math.prod(width[factor] for factor in term) for term in terms.terms]
    total = sum(widths)
    if total <= _FEW or (total <= size and total * size <= _MOST_CELLS):
        return
    term = terms.terms[widths.index(max(widths))]
    widest = max(term, key=width.__getitem__)
    labels = getattr(values[widest], "levels", ())
    which = f": {listed(map(repr, labels), 3)}; a date, or an id?" if labels else ""
    rows = f" for {size:,} rows" if size else ""
    raise ExpressionError(
        f"the terms need {total:,} columns{rows}, {max(widths):,} of them "
        f"`{':'.join(map(_label, term))}`, where `{_label(widest)}` has {width[widest]:,}{which}"
    )


def _width(value: np.ndarray | Factor) -> int:
    if isinstance(value, Factor):
        return len(value.levels)
    return 1 if value.ndim == 1 else value.shape[1]


def _check_names(names: Sequence[str], owners: Sequence[str]) -> None:
    """Refuse two columns of one name, which no table could tell apart."""
    first: dict[str, str] = {}
    for name, owner in zip(names, owners, strict=True):
        if name in first:
            both = f"`{first[name]}` and `{owner}`" if owner != first[name] else f"`{owner}`"
            raise ExpressionError(
                f"two columns would be named {name!r}, of {both}; rename a column or a level"
            )
        first[name] = owner


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
    values = {factor: evaluator.value(factor) for factor in linear_terms(text).factors}
    return [f for f, v in values.items() if isinstance(v, Factor) and len(v.levels) == 1]


def _value(factor: str, evaluator: Evaluator, size: int) -> np.ndarray | Factor:
    value = evaluator.value(factor)
    if isinstance(value, Factor):
        return value
    if isinstance(value, (str, tuple, type(None), Contrast)):
        raise ExpressionError(f"`{factor}` is not a column")
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


def _label(factor: str) -> str:
    """Return what a table calls an expression: a column by its name, without back-quotes."""
    return plain_name(factor) or factor


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
