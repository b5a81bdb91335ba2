"""Degrees of freedom of t and F tests in Gaussian linear mixed models.

The variance c'V(psi)c of a contrast is an estimate; matching its first two moments with those of a
scaled chi-squared gives

    df = 2 (c'Vc)^2 / {g'var(psi-hat) g},   g = d c'V(psi)c / d psi,

psi the entries of Lambda relative to sigma, and log sigma. After Satterthwaite (1946), Biometrics
Bulletin 2, 110-114; several rows as Fai and Cornelius (1996), J. Statistical Computation and
Simulation 54, 363-378, as lmerTest computes them (Kuznetsova, Brockhoff and Christensen 2017,
J. Statistical Software 82(13)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dgmm.estimate import Estimate
from dgmm.inference.small_samples import Denominator, SmallSamples

__all__ = ["Satterthwaite", "satterthwaite"]


@dataclass(frozen=True)
class Satterthwaite(SmallSamples):
    """The covariance of the coefficients with what its own uncertainty needs."""

    covariance: np.ndarray  # (p, p) GLS form, user's columns
    slopes: np.ndarray  # (v, p, p) d vcov / d psi
    uncertainty: np.ndarray  # (v, v) var(psi-hat)

    words = "Satterthwaite"
    form = "GLS form, (sum X'V^-1 X)^-1 at the estimated variances"

    def df(self, contrast: np.ndarray) -> float:
        """Degrees of freedom of one contrast (p,)."""
        variance = float(contrast @ self.covariance @ contrast)
        gradient = np.einsum("a,vab,b->v", contrast, self.slopes, contrast)
        return 2 * variance**2 / float(gradient @ self.uncertainty @ gradient)

    def joint(self, L: np.ndarray) -> Denominator:
        """The denominator of the F test of L beta = 0, L (r, p), by Fai and Cornelius."""
        value, vector = np.linalg.eigh(L @ self.covariance @ L.T)
        kept = value > 1e-10 * value[-1]
        each = np.array([self.df(row) for row in vector.T[kept] @ L])
        if np.ptp(each) < 1e-8 * each.max():
            return Denominator(float(each.mean()), 1.0)
        if np.any(each <= 2):
            return Denominator(2.0, 1.0)
        expected = float((each / (each - 2)).sum())
        return Denominator(2 * expected / (expected - len(each)), 1.0)


def satterthwaite(done: Estimate) -> Satterthwaite:
    """Moments for Satterthwaite's approximation, of a fit by likelihood="exact".

    Raises:
        ValueError: for other fits, whose tests have no denominator degrees of freedom.
    """
    if not done.model.linear:
        raise ValueError(
            "Satterthwaite's degrees of freedom are for models without dnn(); the tests of this "
            "fit use the normal distribution"
        )
    moments = done.likelihood.variance_moments(done.theta)
    if moments is None or done.method not in ("ml", "reml"):
        raise ValueError(
            "Satterthwaite's degrees of freedom are for Gaussian linear mixed models fitted by "
            f"method='reml' or 'ml'; this fit has family {done.model.family.name!r} and "
            f"likelihood={done.likelihood.word!r}, whose tests use the normal distribution"
        )
    basis = done.model.basis.numpy()
    return Satterthwaite(
        basis @ moments.vcov @ basis.T,
        basis @ moments.slopes @ basis.T,
        pseudo_inverse(moments.information),
    )


def pseudo_inverse(information: np.ndarray) -> np.ndarray:
    """Inverse over the directions with information: at a boundary there are others."""
    root = np.sqrt(np.maximum(np.abs(np.diag(information)), 1e-300))
    value, vector = np.linalg.eigh(information / root / root[:, None])
    kept = value > 1e-8
    inverse = (vector[:, kept] / value[kept]) @ vector[:, kept].T
    return inverse / root / root[:, None]
