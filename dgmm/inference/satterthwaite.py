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
import torch
from torch import Tensor

from dgmm.estimate import Estimate
from dgmm.information.gaussian import GaussianLikelihood, variance_vector

__all__ = ["Satterthwaite", "satterthwaite"]


@dataclass(frozen=True)
class Satterthwaite:
    """The covariance of the coefficients with what its own uncertainty needs."""

    vcov: np.ndarray  # (p, p) GLS form, user's columns
    slopes: np.ndarray  # (v, p, p) d vcov / d psi
    uncertainty: np.ndarray  # (v, v) var(psi-hat)

    def df(self, contrast: np.ndarray) -> float:
        """Degrees of freedom of one contrast (p,)."""
        variance = float(contrast @ self.vcov @ contrast)
        gradient = np.einsum("a,vab,b->v", contrast, self.slopes, contrast)
        return 2 * variance**2 / float(gradient @ self.uncertainty @ gradient)

    def denominator(self, L: np.ndarray) -> float:
        """Denominator degrees of freedom of the F test of L beta = 0, L (r, p)."""
        value, vector = np.linalg.eigh(L @ self.vcov @ L.T)
        kept = value > 1e-10 * value[-1]
        each = np.array([self.df(row) for row in vector.T[kept] @ L])
        if np.ptp(each) < 1e-8 * each.max():
            return float(each.mean())
        if np.any(each <= 2):
            return 2.0
        expected = float((each / (each - 2)).sum())
        return 2 * expected / (expected - len(each))


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
    if done.likelihood != "exact" or done.method not in ("ml", "reml"):
        raise ValueError(
            "Satterthwaite's degrees of freedom are for Gaussian linear mixed models fitted by "
            f"method='reml' or 'ml'; this fit has family {done.model.family.name!r} and "
            f"likelihood={done.likelihood!r}, whose tests use the normal distribution"
        )
    likelihood = GaussianLikelihood.of(done, reml=done.method == "reml")
    psi = variance_vector(done, likelihood)
    basis = done.model.basis

    def value(vector: Tensor) -> Tensor:
        return likelihood.value(likelihood.fill(vector[:-1]), vector[-1])

    def vcov(vector: Tensor) -> Tensor:
        factor = likelihood.solve(likelihood.fill(vector[:-1])).factor
        half = torch.linalg.solve_triangular(factor, basis.T, upper=False)
        return torch.exp(2 * vector[-1]) / likelihood.unit**2 * (half.T @ half)

    information = -torch.autograd.functional.hessian(value, psi)
    slopes = torch.autograd.functional.jacobian(vcov, psi)
    return Satterthwaite(
        vcov(psi).numpy(),
        slopes.permute(2, 0, 1).numpy(),
        pseudo_inverse(information.numpy()),
    )


def pseudo_inverse(information: np.ndarray) -> np.ndarray:
    """Inverse over the directions with information: at a boundary there are others."""
    root = np.sqrt(np.maximum(np.abs(np.diag(information)), 1e-300))
    value, vector = np.linalg.eigh(information / root / root[:, None])
    kept = value > 1e-8
    inverse = (vector[:, kept] / value[kept]) @ vector[:, kept].T
    return inverse / root / root[:, None]
