"""A linear mixed model with spline profiles: the process for which the LMM is the truth."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from dgmm.numerics.bases import orthonormal
from dgmm.studies.base import Process

__all__ = ["COEFFICIENTS", "LinearMixed"]

COEFFICIENTS = {"sex": 0.5, "age": -0.3, "sex:age": 0.4, "x": 0.25}
"""Linear effects, with age standardised as (age - 45) / 15."""

KNOTS = (0.0, 2.5, 5.0, 7.5, 10.0)
INTERCEPT = 1.0
MEAN_CURVE = (1.2, 2.0, 0.8, -0.6)
SPREAD = (1.0, 1.2, 1.4, 2.2, 1.0)  # standard deviations of the random intercept and coefficients


class LinearMixed(Process):
    """1 + N(t)'gamma + x'beta + [1, N(t)]'Lambda u,   D = Lambda Lambda'.

    N(t): four columns of natural cubic splines; D_jk = s_j s_k (-0.5)^|j - k|, so correlations of
    0.5^|j - k| with alternating signs.
    """

    name = "lmm"
    stream = 1
    sigma = 0.7
    dim = 5
    linear = True

    def profile(self, u: Tensor, t: Tensor, age: Tensor, sex: Tensor, x: Tensor) -> Tensor:
        N, years, beta = spline(t), (age - 45) / 15, COEFFICIENTS
        b = u @ covariance_root().T
        fixed = beta["sex"] * sex + beta["age"] * years + beta["x"] * x
        fixed = fixed + beta["sex:age"] * sex * years
        mean = INTERCEPT + N @ torch.tensor(MEAN_CURVE, dtype=torch.float64) + fixed
        return mean + b[..., :1] + torch.einsum("njq,...nq->...nj", N, b[..., 1:])


def covariance_root() -> Tensor:
    """Lambda, the lower Cholesky factor of D, (5, 5)."""
    place, s = torch.arange(len(SPREAD)), torch.tensor(SPREAD, dtype=torch.float64)
    correlation = torch.tensor(-0.5, dtype=torch.float64) ** (place[:, None] - place).abs()
    return torch.linalg.cholesky(correlation * s[:, None] * s)


def spline(t: Tensor) -> Tensor:
    """N(t) = {r(t) - r(0)} S, (..., 4): zero at 0, orthonormal over an even grid on [0, 10].

    r is the basis of natural cubic splines in truncated powers of Hastie, Tibshirani and Friedman
    (2009), The Elements of Statistical Learning, equation (5.4), without the constant.
    """
    start, S = _orthonormal()
    return (_truncated_powers(t) - start) @ S


def _truncated_powers(t: Tensor) -> Tensor:
    """t and d_k(t) - d_K(t), d_k = {(t - knot_k)_+^3 - (t - last)_+^3} / (last - knot_k)."""
    last = KNOTS[-1]
    cubes = [(t - knot).clamp(min=0) ** 3 for knot in KNOTS]
    d = [(cube - cubes[-1]) / (last - knot) for cube, knot in zip(cubes, KNOTS[:-1], strict=False)]
    return torch.stack([t, *(one - d[-1] for one in d[:-1])], dim=-1)


@cache
def _orthonormal() -> tuple[Tensor, Tensor]:
    """r(0) and S = R^-1 sqrt(points) / 2 of the QR decomposition of r - r(0) over the grid."""
    grid = torch.from_numpy(np.linspace(KNOTS[0], KNOTS[-1], 201))
    r = _truncated_powers(grid)
    R = torch.from_numpy(np.linalg.qr((r - r[0]).numpy(), mode="r"))
    return r[0], orthonormal(R) * len(grid) ** 0.5 / 2
