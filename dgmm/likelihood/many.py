"""Many Gaussian models with one grouping factor at once, each with its own rows.

Models lie on an axis of their own in the statistics, whose sums, search and second derivatives are
those of one model (:mod:`dgmm.likelihood.statistics`, :mod:`dgmm.likelihood.profiling`). Every
model has its own unit and bases, which make the columns of X and T of its rows orthonormal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dgmm.latent import BOUNDARY, Pattern
from dgmm.latent.covariance import LEAST, working_values
from dgmm.likelihood.profiling import moment_start, search_each
from dgmm.likelihood.statistics import Statistics
from dgmm.likelihood.sufficient import of_theta, profiled_deviance, second_derivatives

__all__ = ["ManyEstimates", "ManyRows", "allows", "estimate_each", "usual"]

EXACT = "exact"

DEPENDENT = 1e-6
"""Share of a column that those before it leave, below which a model is fitted alone."""

SPREAD = 1e-6
"""Residual of least squares, relative to y, below which a model is fitted alone."""

DEFINITE = 1e-10
"""Smallest eigenvalue of an information scaled to unit diagonal that is inverted."""


@dataclass(frozen=True)
class ManyRows:
    """The rows of m models, r for each: of a shorter model the last ones are not ``planned``."""

    y: np.ndarray  # (m, r) less the offset, NaN where not observed
    X: np.ndarray  # (m, r, p)
    T: np.ndarray  # (m, r, q)
    weights: np.ndarray  # (m, r)
    subject: np.ndarray  # (m, r) numbers from 0 within a model, not falling
    planned: np.ndarray  # (m, r) bool

    @property
    def observed(self) -> np.ndarray:
        """Rows with an outcome, (m, r) bool."""
        return self.planned & ~np.isnan(self.y)

    @property
    def subjects(self) -> np.ndarray:
        """Subjects with an outcome, (m, g) bool."""
        m, found = len(self.y), self.observed
        seen = np.zeros((m, int(self.subject.max(initial=0)) + 1), dtype=bool)
        seen[np.nonzero(found)[0], self.subject[found]] = True
        return seen

    def among(self, models: np.ndarray) -> ManyRows:
        """Some of the models."""
        return ManyRows(*(getattr(self, name)[models] for name in self.__dataclass_fields__))


class ManyEstimates(NamedTuple):
    """What was found of m models; parameters held at a boundary have missing covariances."""

    log_likelihood: np.ndarray  # (m,), restricted for REML
    beta: np.ndarray  # (m, p)
    beta_error: np.ndarray  # (m, p) standard errors
    loadings: np.ndarray  # (m, q, q) Lambda, of the columns of T
    sigma: np.ndarray  # (m,)
    working: np.ndarray  # (m, R) log SDs, atanh correlations by rows, log sigma
    working_error: np.ndarray  # (m, R) NaN where a parameter is held or nothing is known
    scale: np.ndarray  # (m, 1) the smallest scale of a random effect
    zero: np.ndarray  # (m, q) effects without a variance of their own
    decrement: np.ndarray  # (m,) Newton decrement where the last step began, standard errors
    evaluations: np.ndarray  # (m,)
    usable: np.ndarray  # (m,) bool: the maximum was reached, and the information can be inverted


class _Bases(NamedTuple):
    """Columns of unit mean square, and the triangles that made them."""

    Q: np.ndarray  # (m, r, c), orthonormal
    R: np.ndarray  # (m, c, c)

    @classmethod
    def of(cls, columns: np.ndarray) -> _Bases:
        """Of columns (m, r, c), by Householder reflections; the diagonal of R is positive."""
        Q, R = np.linalg.qr(columns)
        sign = np.where(R.diagonal(axis1=1, axis2=2) < 0, -1.0, 1.0)
        return cls(Q * sign[:, None, :], R * sign[:, :, None])

    @property
    def independent(self) -> np.ndarray:
        """Models whose columns none of those before explains, (m,) bool."""
        size = np.sqrt((self.R**2).sum(1))
        left = self.R.diagonal(axis1=1, axis2=2)
        found: np.ndarray = (left > DEPENDENT * size).all(1)
        return found


def allows(word: str, method: str) -> bool:
    """Whether likelihood= and method= leave the models to this likelihood."""
    return word in ("auto", EXACT) and method in ("auto", "ml", "reml")


def usual(rows: ManyRows) -> np.ndarray:
    """Models that need no look of their own, (m,) bool.

    There are rows enough, no column explains another, and the outcome varies about the fixed part.
    """
    seen = rows.observed
    (p, q), count, levels = (rows.X.shape[2], rows.T.shape[2]), seen.sum(1), rows.subjects.sum(1)
    enough = (levels >= 2) & (count > p + q) & (count > levels * q)
    if not enough.any() or rows.y.shape[1] < max(p, q):
        return np.zeros_like(enough)
    X, y = _weighted(rows)
    bases = _Bases.of(X)
    left = y - (bases.Q @ (bases.Q.mT @ y[..., None]))[..., 0]
    varies = (left**2).sum(1) > SPREAD**2 * (y**2).sum(1)
    found: np.ndarray = enough & varies & bases.independent
    for some in (rows.planned, seen):
        found &= _Bases.of(np.where(some[..., None], rows.T, 0.0)).independent
    return found


def estimate_each(rows: ManyRows, pattern: Pattern, restricted: bool) -> ManyEstimates:
    """(Restricted) maximum likelihood of every model.

    rows: of models that are :func:`usual`. pattern: free entries of Lambda, those of one term.
    """
    X, y = _weighted(rows)
    bases, count = _Bases.of(X), rows.observed.sum(1)
    fitted = (bases.Q.mT @ y[..., None])[..., 0]
    left = y - (bases.Q @ fitted[..., None])[..., 0]
    again = (bases.Q.mT @ left[..., None])[..., 0]  # once more, for the digits of a far mean
    fitted, left = fitted + again, left - (bases.Q @ again[..., None])[..., 0]
    unit = np.sqrt((left**2).sum(1) / count)
    long = unit * np.sqrt(count)
    basis = long[:, None, None] * np.linalg.inv(bases.R)
    frame = _frames(rows, pattern, unit)
    stats = _statistics(rows, pattern, bases, left, frame, basis, fitted / long[:, None], unit)
    found = search_each(stats, restricted, moment_start(stats))
    return _estimates(stats, found, restricted, basis, frame)


def _weighted(rows: ManyRows) -> tuple[np.ndarray, np.ndarray]:
    """W^(1/2) X (m, r, p) and W^(1/2) y (m, r), zero where no outcome was observed."""
    root = np.where(rows.observed, np.sqrt(rows.weights), 0.0)
    return rows.X * root[..., None], np.where(rows.observed, rows.y, 0.0) * root


def _frames(rows: ManyRows, pattern: Pattern, unit: np.ndarray) -> np.ndarray:
    """Frames (m, q, q) of T as a single model has them: orthonormal, of length one if apart."""
    T = np.where(rows.planned[..., None], rows.T, 0.0)
    if len(pattern.row) == pattern.q:  # no entry below the diagonal
        K = np.eye(pattern.q) / np.sqrt((T**2).sum(1))[:, None, :]
    else:
        K = np.linalg.inv(_Bases.of(T).R)
    return (unit * np.sqrt(rows.planned.sum(1)))[:, None, None] * K


def _statistics(
    rows: ManyRows,
    pattern: Pattern,
    bases: _Bases,
    left: np.ndarray,
    frame: np.ndarray,
    basis: np.ndarray,
    origin: np.ndarray,
    unit: np.ndarray,
) -> Statistics:
    """Sums over the rows of every subject, those of no subject zero."""
    seen, count = rows.observed, rows.observed.sum(1)
    root = np.where(seen, np.sqrt(rows.weights), 0.0)
    t = (np.where(seen[..., None], rows.T, 0.0) @ frame) * (root / unit[:, None])[..., None]
    z = np.concatenate(
        [bases.Q * np.sqrt(count)[:, None, None], (left / unit[:, None])[..., None]], axis=-1
    )
    sums = _BySubject.of(rows)
    t, q, w = np.moveaxis(t, -1, 0), t.shape[-1], np.moveaxis(z, -1, 0)
    A = np.array([[sums(t[a] * t[b]) for b in range(q)] for a in range(q)])
    B = np.array([[sums(one * two) for two in w] for one in t])
    weights = np.where(seen, rows.weights, 1.0)
    return Statistics(
        A,
        B,
        z.mT @ z,
        origin,
        count,
        2 * count * np.log(unit) - np.log(weights).sum(1),
        unit,
        np.linalg.slogdet(basis)[1],
        pattern,
    )


class _BySubject(NamedTuple):
    """Sums of rows (m, r) by subject, (m, g)."""

    start: np.ndarray  # of every run of rows of one subject
    place: np.ndarray  # among (m, g)
    shape: tuple[int, int]

    @classmethod
    def of(cls, rows: ManyRows) -> _BySubject:
        shape = len(rows.subject), int(rows.subject.max(initial=0)) + 1
        place = (np.arange(shape[0])[:, None] * shape[1] + rows.subject).ravel()
        start = np.flatnonzero(np.diff(place, prepend=-1))
        return cls(start, place[start], shape)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        found = np.zeros(self.shape[0] * self.shape[1])
        found[self.place] = np.add.reduceat(values.ravel(), self.start)
        return found.reshape(self.shape)


def _estimates(
    stats: Statistics, found: Any, restricted: bool, basis: np.ndarray, frame: np.ndarray
) -> ManyEstimates:
    """All parameters at the Lambda found, and what is known of them."""
    pattern, p = stats.pattern, stats.p
    filled = pattern.fill(found.x)
    sign = np.where(filled.diagonal(axis1=1, axis2=2) < 0, -1.0, 1.0)
    x = (filled * sign[:, None, :])[:, pattern.row, pattern.column]
    at = profiled_deviance(stats, x, restricted)
    df = stats.N - p if restricted else stats.N
    sigma = np.sqrt(at.rss / df)  # in units of the model
    second = second_derivatives(stats, at.found, at.v, df / at.rss, restricted)
    assert second is not None
    Sv = (at.S @ at.v[..., None])[..., 0]
    H = 0.5 * of_theta(second, x, at.gradient, sigma, Sv, pattern, restricted)
    zero, held = _held(pattern, x, sigma)
    vcov, definite = _inverse(H, np.pad(held, ((0, 0), (p, 1))))
    if restricted:
        vcov[:, :p, :p] = sigma[:, None, None] ** 2 * np.linalg.inv(at.S[:, :p, :p])
    entries = x * sigma[:, None]
    L = pattern.fill(np.where(pattern.on_diagonal, np.maximum(entries, LEAST), entries))
    working, through = working_values(pattern, L, frame)
    working = np.concatenate([working, np.log(sigma * stats.unit)[:, None]], axis=1)
    slope = np.zeros((len(x), through.shape[1] + 1, through.shape[2] + 1))
    slope[:, :-1, :-1], slope[:, -1, -1] = through, 1.0
    among = vcov[:, p:, p:]
    unknown = np.isnan(among.diagonal(axis1=1, axis2=2))
    with np.errstate(invalid="ignore", over="ignore"):  # slopes of correlations of one
        error = np.sqrt(((slope @ np.nan_to_num(among)) * slope).sum(-1))
    uses = ((np.abs(slope) > 1e-12) & unknown[:, None, :]).any(-1)
    error = np.where(uses, np.nan, error)
    return ManyEstimates(
        -0.5 * at.value,
        (basis @ at.beta[..., None])[..., 0],
        np.sqrt((basis @ vcov[:, :p, :p] @ basis.mT).diagonal(axis1=1, axis2=2)),
        frame @ L,
        sigma * stats.unit,
        working,
        error,
        _scale(frame),
        zero,
        found.decrement / np.sqrt(2.0),
        found.evaluations,
        definite & found.reached,
    )


def _scale(frame: np.ndarray) -> np.ndarray:
    return np.sqrt((frame**2).sum(-1)).min(-1, keepdims=True)


def _held(pattern: Pattern, x: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Effects without variance (m, q), and entries (m, E) without information at a boundary."""
    on = pattern.on_diagonal
    diagonal = x[:, on]
    zero = diagonal < BOUNDARY * np.maximum(1.0, diagonal.max(1, keepdims=True))
    row, column = pattern.row[~on], pattern.column[~on]
    below = zero[:, column] & (~zero[:, row] | (np.abs(x[:, ~on]) * sigma[:, None] < BOUNDARY))
    held = np.empty(x.shape, dtype=bool)
    held[:, on], held[:, ~on] = zero, below
    return zero, held


def _inverse(H: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverses of the free parts of H (m, P, P), NaN elsewhere, and which of them are definite."""
    both = held[:, :, None] | held[:, None, :]
    diagonal = H.diagonal(axis1=1, axis2=2)
    root = np.where(held, 1.0, np.sqrt(np.maximum(np.abs(diagonal), 1e-300)))
    scale = root[:, :, None] * root[:, None, :]
    scaled = np.where(both, np.eye(H.shape[1]), H / scale)
    value, vector = np.linalg.eigh(scaled)
    definite = value[:, 0] > DEFINITE
    safe = np.where(definite[:, None], value, 1.0)
    inverse = (vector / safe[:, None, :]) @ vector.mT / scale
    return np.where(both | ~definite[:, None, None], np.nan, inverse), definite
