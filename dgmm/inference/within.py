"""Estimators of panel data that take the level of a subject out, and the one of Swamy and Arora.

    within              y_it - ybar_i on x_it - xbar_i
    given the sum       the conditional likelihood p(y_i | sum_t y_it), where the family has one
    first differences   y_it - y_i,t-1 on x_it - x_i,t-1, without a constant
    Swamy-Arora         y_it - theta_i ybar_i on x_it - theta_i xbar_i,
                        theta_i = 1 - {s_e^2 / (s_e^2 + T_i s_a^2)}^(1/2)

with s_e^2 of the within and s_a^2 of the between residuals (of unbalanced panels by the moments of
Baltagi and Chang (1994), J. Econometrics 62, 67-89). Covariances are classical, and robust to any
dependence within subjects (Arellano 1987, Oxford Bulletin 49, 431-434, without a correction for
their number). Swamy and Arora (1972), Econometrica 40, 261-275.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dgmm.design import dependent_columns
from dgmm.families import Family, Observations

__all__ = [
    "Estimator",
    "Sample",
    "first_differences",
    "given_sum",
    "quasi_demeaned",
    "swamy_arora",
    "within",
]

ROUNDS, CONVERGED = 100, 1e-14
"""Newton steps at most, and the squared decrement, in standard errors, at which one is the last."""

FLAT = 1e-8
"""Information, relative to that at zero, below which a conditional likelihood has no maximum."""

STILL = 1e-12
"""Movement within subjects, in units of the size of a column, that is rounding."""


@dataclass(frozen=True)
class Estimator:
    """Coefficients of some columns."""

    names: tuple[str, ...]
    beta: np.ndarray  # (p,)
    vcov: np.ndarray  # (p, p)
    robust: np.ndarray  # (p, p) cluster-robust

    def select(self, names: tuple[str, ...]) -> Estimator:
        """The coefficients of some of its columns."""
        at = [self.names.index(name) for name in names]
        block = np.ix_(at, at)
        return Estimator(names, self.beta[at], self.vcov[block], self.robust[block])


@dataclass(frozen=True)
class Sample:
    """Rows with an outcome, those of a subject together and in the order of time."""

    names: tuple[str, ...]
    X: np.ndarray  # (N, p)
    y: np.ndarray  # (N,)
    offset: np.ndarray  # (N,)
    subject: np.ndarray  # (N,) 0, ..., n - 1

    @property
    def count(self) -> np.ndarray:
        """T_i, (n,)."""
        return np.bincount(self.subject)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Means over the rows of every subject, (n, ...)."""
        total = np.zeros((len(self.count), *values.shape[1:]))
        np.add.at(total, self.subject, values)
        return total / self.count.reshape(-1, *[1] * (values.ndim - 1))

    def columns(self, names: tuple[str, ...]) -> Sample:
        """The sample with some of its columns."""
        at = [self.names.index(name) for name in names]
        return replace(self, names=names, X=self.X[:, at])

    def varying(self) -> tuple[str, ...]:
        """The columns that vary within subjects and are no combination of others there."""
        inner = self.X - self.mean(self.X)[self.subject]
        spread, size = np.abs(inner).max(0), np.abs(self.X).max(0)
        moves = np.flatnonzero(spread > STILL * size)
        names = tuple(self.names[j] for j in moves)
        gone = dependent_columns(inner[:, moves], names)
        return tuple(name for name in names if name not in gone)

    def with_leads(self, names: tuple[str, ...]) -> Sample:
        """Rows that have a next one, with the values of some columns in it."""
        here = np.flatnonzero(self.subject[1:] == self.subject[:-1])
        at = [self.names.index(name) for name in names]
        _, subject = np.unique(self.subject[here], return_inverse=True)
        return Sample(
            self.names + tuple(f"lead({name})" for name in names),
            np.column_stack([self.X[here], self.X[here + 1][:, at]]),
            self.y[here],
            self.offset[here],
            subject,
        )


def within(sample: Sample) -> Estimator:
    """Least squares on deviations from the means of subjects, of columns that vary in them."""
    own = sample.columns(sample.varying())
    inner, code = own.y - own.offset, own.subject
    X, y = own.X - own.mean(own.X)[code], inner - own.mean(inner)[code]
    return _least_squares(own.names, X, y, code, len(y) - len(own.count) - X.shape[1])


def first_differences(sample: Sample) -> Estimator:
    """Least squares on differences of rows that follow each other."""
    at = np.flatnonzero(sample.subject[1:] == sample.subject[:-1])
    own = sample.columns(sample.varying())
    X, y = own.X[at + 1] - own.X[at], np.diff(sample.y - sample.offset)[at]
    gone = dependent_columns(X, own.names)
    kept = [j for j, name in enumerate(own.names) if name not in gone]
    names = tuple(own.names[j] for j in kept)
    return _least_squares(names, X[:, kept], y, sample.subject[at], len(y) - len(kept))


def swamy_arora(sample: Sample) -> tuple[Estimator, float, float]:
    """The estimator of Swamy and Arora, with s_a and s_e."""
    code, y, T = sample.subject, sample.y - sample.offset, sample.count
    own = sample.columns(sample.varying())
    X, inner = own.X - own.mean(own.X)[code], y - sample.mean(y)[code]
    beta = np.linalg.lstsq(X, inner, rcond=None)[0]
    noise = float(np.square(inner - X @ beta).sum()) / (len(y) - len(T) - X.shape[1])
    means, ybar = sample.mean(sample.X), sample.mean(y)
    gone = dependent_columns(means, sample.names)
    B = means[:, [j for j, name in enumerate(sample.names) if name not in gone]]
    root = np.sqrt(T)
    slope = np.linalg.lstsq(B * root[:, None], ybar * root, rcond=None)[0]
    between = float((T * np.square(ybar - B @ slope)).sum())
    weighted = np.linalg.solve((B * T[:, None]).T @ B, (B * (T**2)[:, None]).T @ B)
    level = (between - (len(T) - B.shape[1]) * noise) / (len(y) - np.trace(weighted))
    level = max(level, 0.0)
    X, y = quasi_demeaned(sample, level, noise)
    found = _least_squares(sample.names, X, y, code, len(y) - X.shape[1])
    return found, float(np.sqrt(level)), float(np.sqrt(noise))


def quasi_demeaned(sample: Sample, level: float, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """X and y less theta_i times their means, at variances of levels and of noise."""
    y, code = sample.y - sample.offset, sample.subject
    theta = (1 - np.sqrt(noise / (noise + sample.count * level)))[code]
    X = sample.X - theta[:, None] * sample.mean(sample.X)[code]
    return X, y - theta * sample.mean(y)[code]


def given_sum(family: Family, sample: Sample) -> Estimator | None:
    """The maximum of the conditional likelihood; None where the family or the data have none."""
    own = sample.columns(sample.varying())
    X, y, offset, mask = _padded(own)
    beta = torch.zeros(X.shape[-1], dtype=torch.float64)
    data = Observations(y, torch.ones_like(y), torch.ones_like(y))
    if family.given_sum(data, offset, mask) is None or not len(beta):
        return None

    def each(beta: Tensor) -> Tensor:
        value = family.given_sum(data, offset + X @ beta, mask)
        assert value is not None
        return value

    def total(beta: Tensor) -> Tensor:
        return each(beta).sum()

    unit = (-torch.func.hessian(total)(beta)).diagonal().clamp(min=0).sqrt()
    for _ in range(ROUNDS):
        gradient, H = torch.func.grad(total)(beta), -torch.func.hessian(total)(beta)
        share = H / unit / unit[:, None]
        if not bool(torch.isfinite(share).all()) or float(torch.linalg.eigvalsh(share)[0]) < FLAT:
            return None  # the maximum is at infinity, or nothing is known
        step, size, value = torch.linalg.solve(H, gradient), 1.0, total(beta)
        last = float(gradient @ step) < CONVERGED
        while not last and size > 1e-8 and total(beta + size * step) < value:
            size /= 2
        beta = beta + size * step
        if last:
            inverse = torch.linalg.inv(-torch.func.hessian(total)(beta)).numpy()
            scores = torch.func.jacfwd(each)(beta).numpy()
            robust = inverse @ (scores.T @ scores) @ inverse
            return Estimator(own.names, beta.numpy(), inverse, robust)
    return None


def _padded(sample: Sample) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """X (n, J, p), y, offset and mask (n, J)."""
    count = sample.count
    first = np.cumsum(count) - count
    place = np.arange(len(sample.y)) - first[sample.subject]
    shape = (len(count), int(count.max()))
    X, y = np.zeros((*shape, sample.X.shape[1])), np.zeros(shape)
    offset, mask = np.zeros(shape), np.zeros(shape, dtype=bool)
    at = (sample.subject, place)
    X[at], y[at], offset[at], mask[at] = sample.X, sample.y, sample.offset, True
    return torch.from_numpy(X), torch.from_numpy(y), torch.from_numpy(offset), torch.tensor(mask)


def _least_squares(
    names: tuple[str, ...], X: np.ndarray, y: np.ndarray, subject: np.ndarray, df: int
) -> Estimator:
    beta = np.linalg.lstsq(X, y, rcond=None)[0]
    residual = y - X @ beta
    inverse = np.linalg.inv(X.T @ X)
    scores = np.zeros((int(subject.max(initial=0)) + 1, X.shape[1]))
    np.add.at(scores, subject, X * residual[:, None])
    robust = inverse @ (scores.T @ scores) @ inverse
    variance = float(residual @ residual) / df if df > 0 else np.nan
    return Estimator(names, beta, variance * inverse, robust)
