"""p values and critical values of several comparisons at once.

    bonferroni, holm   bounds, for any dependence (by statsmodels)
    tukey              all differences of K means: P(Q_{K, df} >= sqrt(2) |t|), Q studentized range
    mvt                P(max_j |T_j| >= |t|),  T multivariate t with the correlations R at hand;
                       against one reference this is Dunnett's

With R = A A' of rank r, T has a direction u, uniform on the sphere, and a radius of its own:

    P(max_j |T_j| >= c) = E_u P{F_{r, df} >= c^2 / (r m(u)^2)},   m(u) = max_j |A_j u|

Tukey (1953), The problem of multiple comparisons; Dunnett (1955), J. American Statistical
Association 50, 1096-1121; Somerville (1998), J. Computational and Graphical Statistics 7, 529-544.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import optimize, special

from dgmm.numerics.quadrature import sobol_normal

__all__ = ["ADJUSTMENTS", "Family", "adjusted", "critical"]

ADJUSTMENTS = ("none", "bonferroni", "holm", "tukey", "dunnett", "mvt")

DIRECTIONS = 2**16
"""Quasi-random directions, by which a probability is good to about 5e-5."""

DIGITS = 6
"""Decimals to which degrees of freedom are told apart."""

LARGE = 1e5
"""Degrees of freedom above which t is normal."""


@dataclass(frozen=True)
class Family:
    """Comparisons made together; only those that have a value."""

    t: np.ndarray  # (C,)
    df: np.ndarray  # (C,), inf for z
    correlation: np.ndarray  # (C, C)
    means: int  # how many means are compared

    @cached_property
    def directions(self) -> tuple[int, np.ndarray]:
        """The rank r, and m(u)^2 in quasi-random directions u."""
        value, vector = np.linalg.eigh(self.correlation)
        kept = value > 1e-10 * value[-1]
        A, r = vector[:, kept] * np.sqrt(value[kept]), int(kept.sum())
        u = sobol_normal(r, DIRECTIONS, seed=17).numpy()
        u = u / np.linalg.norm(u, axis=1, keepdims=True)
        return r, np.square(u @ A.T).max(axis=1)

    def largest(self, c: float, df: float) -> float:
        """P(max_j |T_j| >= c)."""
        r, m2 = self.directions
        squared = c**2 / m2
        tail = special.fdtrc(r, df, squared / r) if df < LARGE else special.chdtrc(r, squared)
        return float(tail.mean())


def adjusted(family: Family, method: str) -> np.ndarray:
    """p values, (C,)."""
    size = np.abs(family.t)
    plain = _two_sided(size, family.df)
    if method == "none" or len(size) < 2:
        return plain
    if method in ("bonferroni", "holm"):
        from statsmodels.stats.multitest import multipletests  # a fit need not wait for it

        return np.asarray(multipletests(plain, method=method)[1])
    if method == "tukey":
        return _range(np.sqrt(2) * size, family)
    return np.array([family.largest(t, df) for t, df in zip(size, family.df, strict=True)])


def critical(family: Family, method: str, level: float) -> np.ndarray:
    """What a standard error is multiplied by for intervals that cover together, (C,).

    Those of holm are bonferroni's: a stepwise test has no intervals of its own.
    """
    C = len(family.t)
    if method == "none" or C < 2:
        return _quantile(1 - level, family.df)
    if method in ("bonferroni", "holm"):
        return _quantile((1 - level) / C, family.df)
    each = family.df.round(DIGITS).tolist()
    found = {df: _joint(family, method, level, df) for df in set(each)}
    return np.array([found[df] for df in each])


def _joint(family: Family, method: str, level: float, df: float) -> float:
    if method == "tukey":
        scale = float(_studentized_range().ppf(level, family.means, _finite(df)))
        return scale / np.sqrt(2)

    far = 1 + float(_quantile((1 - level) / (10 * len(family.t)), np.array([df]))[0])
    return float(optimize.brentq(lambda c: family.largest(c, df) - (1 - level), 0.1, far))


def _range(q: np.ndarray, family: Family) -> np.ndarray:
    law, pairs = _studentized_range(), zip(q, family.df, strict=True)
    found = [float(law.sf(one, family.means, _finite(df))) for one, df in pairs]
    return np.clip(found, 0.0, 1.0)


def _studentized_range() -> Any:
    from scipy.stats import studentized_range  # a fit need not wait for it

    return studentized_range


def _finite(df: float) -> float:
    return df if df < LARGE else np.inf


def _two_sided(size: np.ndarray, df: np.ndarray) -> np.ndarray:
    normal = 2 * special.ndtr(-size)
    finite = np.where(np.isfinite(df), df, 1.0)
    return np.where(np.isfinite(df), 2 * special.stdtr(finite, -size), normal)


def _quantile(alpha: float, df: np.ndarray) -> np.ndarray:
    finite = np.where(np.isfinite(df), df, 1.0)
    of_t = special.stdtrit(finite, 1 - alpha / 2)
    return np.where(np.isfinite(df), of_t, special.ndtri(1 - alpha / 2))
