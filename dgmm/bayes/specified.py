"""The priors of one model: what the user gave, defaults filled in from the scale of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dgmm.bayes.layout import Factor, Layout
from dgmm.bayes.priors import (
    CovariancePrior,
    HalfT,
    InverseGamma,
    InverseWishart,
    Prior,
)
from dgmm.mcmc import Streams
from dgmm.panel import Panel

__all__ = ["Specified", "specify"]

WIDE = 10.0
"""Standard deviation of a coefficient under the default prior, on orthonormal columns, in s."""

SCALE = 2.5
"""Scale of the half-t default, in s over the root mean square of the column."""

OF_FAMILY = 2.5
"""Standard deviation of further parameters of the family under the default prior."""


@dataclass(frozen=True)
class Specified:
    """Priors with all their numbers; coefficients on the columns as written."""

    mean: np.ndarray  # (p,)
    precision: np.ndarray  # (p, p)
    blocks: tuple[tuple[tuple[tuple[int, ...], CovariancePrior], ...], ...]  # per factor
    sigma2: CovariancePrior
    extra_mean: np.ndarray  # (R,)
    extra_sd: np.ndarray  # (R,)
    lines: tuple[str, ...]  # for the summary

    # -- draws from the prior ------------------------------------------------------------------

    def coefficients(self, streams: Streams) -> np.ndarray:
        """beta (C, p)."""
        noise = streams.normal(len(self.mean))
        root = np.linalg.cholesky(self.precision) if len(self.mean) else self.precision
        drawn: np.ndarray = self.mean + np.linalg.solve(root.T, noise.T).T
        return drawn

    def covariance(self, f: int, K: int, streams: Streams) -> np.ndarray:
        """D (K, K, C) of one factor."""
        D = np.zeros((K, K, streams.chains))
        for columns, prior in self.blocks[f]:
            D[np.ix_(columns, columns)] = prior.simulate(len(columns), streams)
        return D

    def residual(self, streams: Streams) -> np.ndarray:
        """sigma^2 (C,)."""
        return self.sigma2.simulate(1, streams)[0, 0]

    def extra(self, streams: Streams) -> np.ndarray:
        """Further parameters of the family (C, R)."""
        return self.extra_mean + self.extra_sd * streams.normal(len(self.extra_sd))


def specify(given: Prior, layout: Layout, panel: Panel) -> Specified:
    """The priors of a model on its planned rows.

    Raises:
        ValueError: numbers of the wrong length, an inverse-Wishart with too few degrees of freedom,
            "hoff" for a model that it is not for.
    """
    if given.word == "hoff":
        return _unit_information(layout, panel)
    model, seen = layout.model, panel.observed_rows()
    s, c, extra = _scales(layout, panel)
    mean, precision, text = _of_coefficients(given, layout, seen, s, c)
    blocks, lines = [], []
    rows = layout.rows(seen)
    for factor, t in zip(layout.factors, rows.t, strict=True):
        size = np.sqrt(np.square(t).mean(0))
        found = _of_factor(given.cov or HalfT(), factor, SCALE * s / np.where(size > 0, size, 1))
        blocks.append(found)
        where = f" | {factor.name}" if factor.name else ""
        for columns, one in found:
            named = ", ".join(factor.names[k] for k in columns)
            lines.append(f"{one.about}({named}{where}) ~ {one}")
    sigma2: CovariancePrior = (given.sigma2 or HalfT()).checked(1, "the residual variance")
    sigma2 = sigma2.scaled(np.array([SCALE * s]))
    if model.family.conjugate:
        lines.append(f"{'sigma' if sigma2.about == 'sd' else 'sigma^2'} ~ {sigma2}")
    elif given.sigma2 is not None:
        raise ValueError(
            f"sigma2= is the prior of the residual variance of a Gaussian outcome; family "
            f"{model.family.name!r} has none. Give family=normal(mean, sd) for its parameters"
        )
    names = model.family.extra
    centre, spread = extra, np.full(len(extra), OF_FAMILY)
    if given.family is not None:
        centre, spread = given.family.of(names, f"family {model.family.name!r}")
    if not model.family.conjugate:
        triples = zip(names, centre, spread, strict=True)
        lines += [f"{one} ~ normal({a:.3g}, {b:g})" for one, a, b in triples]
    return Specified(mean, precision, tuple(blocks), sigma2, centre, spread, (*text, *lines))


def _scales(layout: Layout, panel: Panel) -> tuple[float, float, np.ndarray]:
    """s, c and starting values of further parameters, all from the outcomes without covariates."""
    family, seen = layout.model.family, panel.observed_rows()
    data = seen.rows.data
    start = family.start_mean(data)
    eta = family.link.forward(start)
    identity = family.link.name == "identity"
    s = float(eta.std()) if identity and len(eta) > 1 else 1.0
    pooled = family.link.inverse(eta.mean().expand_as(eta))
    extra = family.start_extra(data, pooled if identity else start).numpy()
    return (s if s > 0 else 1.0), float((eta - seen.rows.offset).mean()), extra


def _of_coefficients(
    given: Prior, layout: Layout, seen: Panel, s: float, c: float
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    names, p = layout.names, layout.p
    if not p:
        return np.zeros(0), np.zeros((0, 0)), []
    if given.beta is not None:
        mean, sd = given.beta.of(names, "the linear coefficients")
        return mean, np.diag(1 / sd**2), [f"coefficients ~ {given.beta}"]
    X = seen.rows.X.numpy()
    mean, text = np.zeros(p), "0"
    if "(Intercept)" in names:
        mean[names.index("(Intercept)")] = c
        text = f"{c:.4g} for (Intercept), 0 for others"
    precision = X.T @ X / len(X) / (WIDE * s) ** 2
    return (
        mean,
        precision,
        [f"coefficients ~ N(m, ({WIDE:g} s)^2 N (X'X)^-1), s = {s:.4g}, m = {text}"],
    )


def _of_factor(
    prior: CovariancePrior, factor: Factor, sizes: np.ndarray
) -> tuple[tuple[tuple[int, ...], CovariancePrior], ...]:
    found = []
    for term in factor.terms:
        for block in term.blocks:
            own = prior.checked(len(block), term.latent.label)
            found.append((block, own.scaled(sizes[list(block)])))
    return tuple(found)


def _unit_information(layout: Layout, panel: Panel) -> Specified:
    """Hoff (2009), section 11.2: as much information as the least-squares fit of one group.

    With b_j and s_j^2 the least-squares fit of group j, mu_0 = mean b_j, L_0 = S_0 = cov(b_j),
    df = q + 2, so that E(D) = S_0, and sigma^2 ~ IG(1/2, s_0^2 / 2), s_0^2 = mean s_j^2.
    """
    seen, (factor, *others) = panel.observed_rows(), layout.factors
    rows = layout.rows(seen)
    t = rows.t[0]
    same = t.shape[1] == layout.p and np.allclose(t, seen.rows.X.numpy())
    if not layout.model.family.conjugate or others or len(factor.terms) > 1 or not same:
        raise ValueError(
            "prior='hoff' is made of the least-squares fits of all groups: it is for a Gaussian "
            "outcome, one random part, and the same columns in the fixed part, as in "
            "y ~ x + (1 + x | id); use prior() otherwise"
        )
    y = (seen.rows.data.y / seen.rows.data.trials).numpy() - rows.offset
    fits, residual = [], []
    for j in range(factor.m):
        own = rows.level[0] == j
        if own.sum() <= factor.K or np.linalg.matrix_rank(t[own]) < factor.K:
            continue
        b = np.linalg.lstsq(t[own], y[own], rcond=None)[0]
        fits.append(b)
        residual.append(np.square(y[own] - t[own] @ b).sum() / (own.sum() - factor.K))
    if len(fits) <= factor.K + 1:
        raise ValueError(
            f"prior='hoff' needs more than {factor.K + 1} groups whose rows determine a regression "
            f"of their own, and {len(fits)} of {factor.m} do; use prior()"
        )
    S = np.cov(np.array(fits).T, ddof=1).reshape(factor.K, factor.K)
    mean, s0 = np.mean(fits, axis=0), float(np.mean(residual))
    covariance = InverseWishart(factor.K + 2, tuple(map(tuple, S.tolist())))
    listed: Sequence[str] = [f"{one:.4g}" for one in mean]
    sigma2 = InverseGamma(1.0, ((s0,),))
    return Specified(
        mean,
        np.linalg.inv(S),
        (((tuple(range(factor.K)), covariance),),),
        sigma2,
        np.zeros(1),
        np.ones(1),
        (
            f"coefficients ~ N([{', '.join(listed)}], S), the mean of {len(fits)} least-squares "
            "fits and S their covariance (Hoff, unit information)",
            f"cov({', '.join(factor.names)}) ~ {covariance}",
            f"sigma^2 ~ {sigma2}",
        ),
    )
