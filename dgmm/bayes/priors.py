"""Prior distributions: of coefficients, of covariances of random effects, of the residual variance.

    half_t(nu, A)       sd_k ~ half-t(nu, A_k), by Sigma | a ~ IW(nu + q - 1, 2 nu diag(1 / a)),
                        a_k ~ IG(1/2, 1 / A_k^2); every correlation is uniform for nu = 2
    inv_wishart(df, S)  p(Sigma) ~ |Sigma|^-(df + q + 1)/2 exp{-tr(S Sigma^-1)/2}
    inv_gamma(a, b)     p(v) ~ v^-(a + 1) exp(-b / v), which is inv_wishart(2 a, 2 b) of one number

All are proper. The scale of inv_wishart is S itself, E(Sigma) = S / (df - q - 1): it is the S of
those who write inverse-Wishart(df, S^-1), as Hoff (2009) does.

Huang and Wand (2013), Bayesian Analysis 8, 439-452; Hoff (2009), A First Course in Bayesian
Statistical Methods, chapters 7 and 11.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from dgmm.mcmc import Streams, draw_inverse_gamma, draw_inverse_wishart
from dgmm.runtime.gate import gate, is_number

__all__ = [
    "CovariancePrior",
    "HalfT",
    "InverseGamma",
    "InverseWishart",
    "NormalPrior",
    "Prior",
    "half_t",
    "inv_gamma",
    "inv_wishart",
    "normal",
    "prior",
]


def positive_number(value: Any, what: str) -> float:
    """A positive, finite number; ValueError where it is none."""
    if not is_number(value) or not 0 < float(value) < np.inf:
        raise ValueError(
            f"{what} is a positive, finite number, not {value!r}: a prior has to be proper, for "
            "under a flat one there may be no posterior"
        )
    return float(value)


def positive_definite(value: Any, what: str) -> tuple[tuple[float, ...], ...]:
    """The rows of a symmetric matrix, or of a number as one; ValueError where it is none."""
    matrix = np.atleast_2d(np.asarray(value, dtype=float))
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    square = square and bool(np.isfinite(matrix).all())
    if not square or not np.allclose(matrix, matrix.T) or np.linalg.eigvalsh(matrix).min() <= 0:
        raise ValueError(f"{what} is a positive definite matrix, not {value!r}")
    return tuple(map(tuple, matrix.tolist()))


def _numbers(value: Any, what: str) -> tuple[float, ...]:
    """One number or several."""
    given = (value,) if is_number(value) else tuple(np.asarray(value, dtype=object).ravel())
    for one in given:
        if not is_number(one) or not np.isfinite(float(one)):
            raise ValueError(f"{what} is a finite number, or one for each, not {value!r}")
    return tuple(float(one) for one in given)


# -- coefficients --------------------------------------------------------------------------------


@dataclass(frozen=True)
class NormalPrior:
    """Independent N(mean_j, sd_j^2): one number for all, or one for each."""

    mean: tuple[float, ...]
    sd: tuple[float, ...]

    def of(self, names: Sequence[str], what: str) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations of some coefficients, (p,) each."""
        found = []
        for values, word in ((self.mean, "means"), (self.sd, "standard deviations")):
            if len(values) not in (1, len(names)):
                raise ValueError(
                    f"the prior of {what} has {len(values)} {word}, and there are {len(names)}: "
                    f"{', '.join(names)}. Give one number, or one for each in this order"
                )
            found.append(np.broadcast_to(np.array(values), (len(names),)).copy())
        return found[0], found[1]

    def __str__(self) -> str:
        mean, sd = (", ".join(f"{one:g}" for one in values) for values in (self.mean, self.sd))
        several = len(self.mean) > 1 or len(self.sd) > 1
        return f"normal([{mean}], [{sd}])" if several else f"normal({mean}, {sd})"


@gate
def normal(mean: float | Sequence[float] = 0.0, sd: float | Sequence[float] = 10.0) -> NormalPrior:
    """The normal distribution as a prior of coefficients.

        beta_j ~ N(mean_j, sd_j^2), independent, in the units of the coefficients as written

    Args:
        mean: one number, or one for each coefficient.
        sd: likewise, positive.

    Raises:
        ValueError: a standard deviation that is zero, negative or infinite (an improper prior).
    """
    found = _numbers(mean, "mean of normal()")
    spread = (sd,) if is_number(sd) else tuple(np.asarray(sd, dtype=object).ravel())
    return NormalPrior(found, tuple(positive_number(one, "sd of normal()") for one in spread))


# -- covariances ---------------------------------------------------------------------------------


class CovariancePrior(ABC):
    """A prior of a covariance matrix (q, q), and its conditional given normal effects.

    Matrices have the chains on the last axis, (q, q, C).
    """

    about: ClassVar[str] = "cov"  # what its numbers are about: "cov" or "sd"
    fixed: ClassVar[bool] = False  # all mass on one matrix

    @abstractmethod
    def checked(self, q: int, what: str) -> CovariancePrior:
        """The prior of a (q, q) matrix; ValueError where it is none."""

    def scaled(self, sizes: np.ndarray) -> CovariancePrior:
        """The prior with what it leaves open set by sensible standard deviations (q,)."""
        return self

    @abstractmethod
    def log_density(self, precision: np.ndarray) -> np.ndarray:
        """log p(D) up to a constant, (C,), from D^-1 (q, q, C)."""

    @abstractmethod
    def draw(
        self, precision: np.ndarray, scatter: np.ndarray, levels: float, streams: Streams
    ) -> np.ndarray:
        """D given ``levels`` effects ~ N(0, D) with sum of products ``scatter``, (q, q, C).

        precision: D^-1 of the current D, on which auxiliary numbers may depend.
        """

    @abstractmethod
    def simulate(self, q: int, streams: Streams) -> np.ndarray:
        """D from the prior, (q, q, C)."""


def log_det(matrix: np.ndarray) -> np.ndarray:
    """log |M| of positive definite matrices (q, q, C)."""
    if len(matrix) == 1:
        return np.log(matrix[0, 0])
    found: np.ndarray = np.linalg.slogdet(np.moveaxis(matrix, -1, 0))[1]
    return found


@dataclass(frozen=True)
class HalfT(CovariancePrior):
    """Standard deviations half-t(df, scale_k), after Huang and Wand; see the module."""

    df: float = 2.0
    scale: tuple[float, ...] = ()  # of every effect; () is set by the data

    about = "sd"

    def checked(self, q: int, what: str) -> HalfT:
        if len(self.scale) not in (0, 1, q):
            raise ValueError(
                f"half_t() of {what} has {len(self.scale)} scales for {q} standard deviations"
            )
        return self if len(self.scale) in (0, q) else replace(self, scale=self.scale * q)

    def scaled(self, sizes: np.ndarray) -> HalfT:
        return self if self.scale else replace(self, scale=tuple(float(one) for one in sizes))

    def log_density(self, precision: np.ndarray) -> np.ndarray:
        q, nu, at = len(precision), self.df, np.arange(len(precision))
        rates = np.log(nu * precision[at, at] + np.array(self.scale)[:, None] ** -2).sum(0)
        found: np.ndarray = 0.5 * (nu + 2 * q) * log_det(precision) - 0.5 * (nu + q) * rates
        return found

    def draw(
        self, precision: np.ndarray, scatter: np.ndarray, levels: float, streams: Streams
    ) -> np.ndarray:
        q, at = len(precision), np.arange(len(precision))
        rate = self.df * precision[at, at] + np.array(self.scale)[:, None] ** -2
        a = draw_inverse_gamma(0.5 * (self.df + q), rate, streams)
        return self._given(a, scatter, levels, streams)

    def simulate(self, q: int, streams: Streams) -> np.ndarray:
        rate = np.repeat(np.array(self.scale)[:, None] ** -2, streams.chains, axis=1)
        a = draw_inverse_gamma(0.5, rate, streams)
        return self._given(a, np.zeros((q, q, streams.chains)), 0, streams)

    def _given(
        self, a: np.ndarray, scatter: np.ndarray, levels: float, streams: Streams
    ) -> np.ndarray:
        S, at = scatter.copy(), np.arange(len(scatter))
        S[at, at] += 2 * self.df / a
        return draw_inverse_wishart(self.df + len(S) - 1 + levels, S, streams)

    def __str__(self) -> str:
        scale = ", ".join(f"{one:.3g}" for one in self.scale)
        return f"half_t({self.df:g}, {scale})" if scale else f"half_t({self.df:g})"


@dataclass(frozen=True)
class InverseWishart(CovariancePrior):
    """IW(df, S); see the module."""

    df: float
    S: tuple[tuple[float, ...], ...]  # rows

    def checked(self, q: int, what: str) -> InverseWishart:
        found = self
        if len(self.S) == 1 and q > 1:  # S I
            diagonal = self.S[0][0] * np.eye(q)
            found = replace(self, S=tuple(map(tuple, diagonal.tolist())))
        if len(found.S) != q:
            raise ValueError(
                f"the prior of {what} is about {q} effects, and S of inv_wishart() is "
                f"{len(self.S)} x {len(self.S)}"
            )
        if found.df <= q - 1:
            raise ValueError(
                f"inv_wishart({self.df:g}, S) of {what} is no distribution: {q} effects need more "
                f"than {q - 1} degrees of freedom; {q + 2} give a prior mean of S"
            )
        return found

    def log_density(self, precision: np.ndarray) -> np.ndarray:
        trace = np.einsum("ab,abc->c", np.array(self.S), precision)
        found: np.ndarray = 0.5 * (self.df + len(precision) + 1) * log_det(precision) - 0.5 * trace
        return found

    def draw(
        self, precision: np.ndarray, scatter: np.ndarray, levels: float, streams: Streams
    ) -> np.ndarray:
        scale = np.array(self.S)[:, :, None] + scatter
        return draw_inverse_wishart(self.df + levels, scale, streams)

    def simulate(self, q: int, streams: Streams) -> np.ndarray:
        scale = np.repeat(np.array(self.S)[:, :, None], streams.chains, axis=2)
        return draw_inverse_wishart(self.df, scale, streams)

    def __str__(self) -> str:
        rows = "; ".join(" ".join(f"{one:.4g}" for one in row) for row in self.S)
        return f"inv_wishart({self.df:g}, [{rows}])"


@dataclass(frozen=True)
class InverseGamma(InverseWishart):
    """IG(a, b) as IW(2 a, 2 b)."""

    def __str__(self) -> str:
        return f"inv_gamma({self.df / 2:g}, {self.S[0][0] / 2:.4g})"


@gate
def half_t(df: float = 2.0, scale: float | Sequence[float] | None = None) -> HalfT:
    """The half-t prior of standard deviations.

        p(sd) ~ {1 + (sd / scale)^2 / df}^-(df + 1)/2,  sd > 0

    Args:
        df: degrees of freedom; with 2 every correlation is uniform on (-1, 1).
        scale: one number, or one for each effect; by default 2.5 standard deviations of the outcome
            (of the linear predictor: 1 where the link is not the identity), divided by the root
            mean square of the column of the effect.

    Raises:
        ValueError: a number that is zero, negative or infinite.

    References:
        Gelman (2006), Bayesian Analysis 1, 515-534; Huang and Wand (2013), ibid. 8, 439-452.
    """
    given = () if scale is None else (scale,) if is_number(scale) else tuple(np.ravel(scale))
    return HalfT(
        positive_number(df, "df of half_t()"),
        tuple(positive_number(one, "scale of half_t()") for one in given),
    )


@gate
def inv_wishart(df: float, S: Any) -> InverseWishart:
    """The inverse-Wishart prior of a covariance, E(Sigma) = S / (df - q - 1).

    Args:
        df: degrees of freedom, more than q - 1 for q effects.
        S: (q, q), symmetric and positive definite, in the units of the effects; a number s for s I.

    Raises:
        ValueError: no positive definite matrix.
    """
    found = positive_definite(S, "S of inv_wishart()")
    return InverseWishart(positive_number(df, "df of inv_wishart()"), found)


@gate
def inv_gamma(a: float, b: float) -> InverseGamma:
    """The inverse-gamma prior of a variance, p(v) ~ v^-(a + 1) exp(-b / v).

    Raises:
        ValueError: a or b is not positive: inv_gamma(0, 0) is improper.
    """
    shape, rate = positive_number(a, "a of inv_gamma()"), positive_number(b, "b of inv_gamma()")
    return InverseGamma(2 * shape, ((2 * rate,),))


# -- all of a model ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prior:
    """The priors of a model; None where the default is taken."""

    beta: NormalPrior | None = None
    cov: CovariancePrior | None = None
    sigma2: CovariancePrior | None = None
    family: NormalPrior | None = None
    word: str = ""  # "hoff"

    @property
    def residual_known(self) -> bool:
        """Whether the residual variance is given and not drawn."""
        return self.sigma2 is not None and self.sigma2.fixed


@gate
def prior(
    *,
    beta: NormalPrior | None = None,
    cov: CovariancePrior | None = None,
    sigma2: CovariancePrior | None = None,
    family: NormalPrior | None = None,
) -> Prior:
    """The priors of a model fitted by ``method="gibbs"``; defaults are weak and proper.

    Args:
        beta: of the linear coefficients, ``normal(0, 10)``; by default
            N(c, (10 s)^2 N (X'X)^-1), which weighs as much as a hundredth of one observation: s the
            standard deviation of the outcome and c its mean at (Intercept), 1 and that of the link
            where the link is not the identity.
        cov: of the covariance of the random effects of every term, ``half_t()`` (the default) or
            ``inv_wishart(df, S)``; of terms with one effect, or independent ones, also
            ``half_normal(scale)`` and ``log_normal(mean, sd)``; ``known(V)`` fixes it.
        sigma2: of the residual variance, ``inv_gamma(a, b)``, ``half_t()`` (the default, with
            scale 2.5 s), ``half_normal(scale)`` or ``log_normal(mean, sd)``, the last three of
            its root; ``known(v)`` fixes it.
        family: of further parameters of the family on their unconstrained scale (log, logit);
            by default normal with standard deviation 2.5 around their starting values.

    Raises:
        TypeError: something that is not made by one of these functions.
    """
    kinds = (
        ("beta", beta, NormalPrior, "normal(mean, sd)"),
        ("cov", cov, CovariancePrior, "half_t(df, scale) or inv_wishart(df, S)"),
        ("sigma2", sigma2, CovariancePrior, "inv_gamma(a, b) or half_t(df, scale)"),
        ("family", family, NormalPrior, "normal(mean, sd)"),
    )
    for name, value, kind, right in kinds:
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"{name}= of prior() is {right}, not {value!r}")
    return Prior(beta, cov, sigma2, family)
